"""OpenTelemetry traces: a span for each request, with a child for each stage that ran. Needs the extra `otel`."""

from __future__ import annotations

import threading
import time
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from service.telemetry.record import RequestRecord
from service.web.monitoring_paths import MONITORING_PATHS

_EXPORT_SECONDS = 5.0
_CLOSING_SECONDS = 2.0
_MAX_STAGES = 64  # spans of one request; a large batch would crowd out other requests
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


def open_provider(endpoint: str) -> TracerProvider:
    """A provider that sends spans from its own thread, and drops them if the endpoint is unavailable.

    The standard variables (`OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES`,
    `OTEL_BSP_*`) apply.

    Args:
        endpoint: the complete URL for traces by OTLP over HTTP.
    """
    service = {"service.name": "mora-serve", "service.version": version("mora-serve")}
    provider = TracerProvider(resource=Resource.create(service), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=_EXPORT_SECONDS)))
    return provider


def close(provider: TracerProvider) -> None:
    """Send the remaining spans; blocking. Spans that a slow collector has not accepted after two seconds are lost."""
    closing = threading.Thread(target=provider.shutdown, daemon=True)
    closing.start()
    closing.join(_CLOSING_SECONDS)


class Tracing:
    """ASGI middleware around `Observation`. It makes spans from the record of a request.

    It continues the trace of the request's `traceparent` and adds the `trace_id` to every log line of the request. A
    span has the fields of the log line and never contains input: no path, no query, no header.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in MONITORING_PATHS:
            await self._app(scope, receive, send)
            return
        epoch = time.time_ns() - time.perf_counter_ns()  # spans need wall-clock times
        parent = TraceContextTextMapPropagator().extract(Headers(scope=scope))
        span = self._tracer.start_span(
            _method(scope), parent, SpanKind.SERVER, start_time=epoch + time.perf_counter_ns()
        )
        status: int | None = None

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with bound_contextvars(trace_id=format_trace_id(span.get_span_context().trace_id)):
                await self._app(scope, receive, note_status)
        except Exception:
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            record: RequestRecord = scope["state"]["record"]
            _describe(span, scope, record, status)
            self._add_stages(set_span_in_context(span), record, epoch)
            span.end(epoch + time.perf_counter_ns())

    def _add_stages(self, parent: Context, record: RequestRecord, epoch: int) -> None:
        ran = [run for run in record.runs if run.seconds]
        for run in ran[:_MAX_STAGES]:
            started = epoch + round(run.started * 1e9)
            span = self._tracer.start_span(run.stage.value, parent, start_time=started)
            span.end(started + round(run.seconds * 1e9))


def _describe(span: Span, scope: Scope, record: RequestRecord, status: int | None) -> None:
    route = getattr(scope.get("route"), "path", None)
    attributes = {
        "http.request.method": _method(scope),
        "http.route": route,
        "http.response.status_code": status,
        "error.type": record.problem,
        "mora.request_id": record.request_id,
        "mora.task": record.task or None,
        "mora.version": record.version,
        "mora.modalities": record.pattern and record.pattern.value,
    }
    span.set_attributes({name: value for name, value in attributes.items() if value is not None})
    if route is not None:
        span.update_name(f"{_method(scope)} {route}")
    if status is not None and status >= 500:
        span.set_status(StatusCode.ERROR)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "HTTP"
