"""The record, response headers, metrics and log line of every request. The log line never contains input."""

from __future__ import annotations

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ServiceError, internal
from service.telemetry.metrics import Metrics
from service.telemetry.record import CLIENT_GONE, SAFE_ID, RequestRecord
from service.web.inflight import InflightRequests
from service.web.monitoring_paths import MONITORING_PATHS
from service.web.problems import problem_response

_log = structlog.get_logger()


class Observation:
    """ASGI middleware. It also answers a request whose exception was not handled.

    Args:
        timeout_ms: deadline of a request until its body sets another, counted from its arrival.
        inflight: ends requests at the end of the drain.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, timeout_ms: int, inflight: InflightRequests | None = None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._timeout_ms = timeout_ms
        self._inflight = inflight or InflightRequests()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = scope.setdefault("state", {})["record"] = RequestRecord()
        record.allow(self._timeout_ms)
        response = _Response(send, record, _client_request_id(scope))
        if scope["path"] in MONITORING_PATHS:  # would dominate the metrics and the log; counted if refused
            await self._answer(scope, receive, response)
            if response.status is None or not 400 <= response.status < 500:
                return
        else:
            with self._metrics.inflight_requests.track_inprogress():
                await self._answer(scope, receive, response)
        route = getattr(scope.get("route"), "path", None)
        conclude(record, self._metrics, response.status, scope["method"], route, response.client_request_id)

    async def _answer(self, scope: Scope, receive: Receive, response: _Response) -> None:
        try:
            with self._inflight.cuttable():
                await self._app(scope, receive, response.send)
            return
        except ClientDisconnect:
            response.status = CLIENT_GONE
            self._metrics.client_gone.inc()
            return
        except ServiceError as cut:
            error = cut
        except Exception:
            _log.exception("internal_error", request_id=response.record.request_id)
            if response.status is not None:  # the answer has begun, so the client learns it from the closed connection
                raise
            error = internal()
        response.record.problem = error.code.reason
        if response.status is None:
            await problem_response(error, response.record.request_id, path=scope["path"])(scope, receive, response.send)


def conclude(
    record: RequestRecord,
    metrics: Metrics,
    status: int | None,
    method: str | None = None,
    route: str | None = None,
    client_request_id: str | None = None,
) -> None:
    """Count a finished request and write its log line. A malformed request has no method and no route."""
    metrics.request_duration.labels(record.task, record.pattern or "").observe(record.elapsed_seconds)
    for cell, number in record.counted(status or 0).items():
        metrics.requests.labels(cell.task, cell.modalities, str(cell.status)).inc(number)
        if cell.problem is not None:
            metrics.rejected.labels(cell.problem).inc(number)
    for stage, seconds in record.stage_seconds.items():
        if seconds:
            metrics.stage_duration.labels(stage).observe(seconds)
    _log.info(
        "request",
        request_id=record.request_id,
        client_request_id=client_request_id,
        client=record.client,
        method=method,
        route=route,
        status=status,
        problem=record.problem,
        task=record.task,
        version=record.version,
        modalities=record.pattern,
        stages_ms=record.milliseconds(),
        duration_ms=round(record.elapsed_seconds * 1000, 3),
    )


class _Response:
    """Keeps the status of the answer and adds the headers that every answer has."""

    def __init__(self, send: Send, record: RequestRecord, client_request_id: str | None) -> None:
        self.record = record
        self.client_request_id = client_request_id
        self.status: int | None = None
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            headers["X-Request-ID"] = self.client_request_id or self.record.request_id
            if self.record.stage_seconds:
                stages = self.record.milliseconds().items()
                headers["Server-Timing"] = ", ".join(f"{stage};dur={value}" for stage, value in stages)
        await self._send(message)


def _client_request_id(scope: Scope) -> str | None:
    """The client's own id of its request, if that is safe in a header and a log line."""
    header = Headers(scope=scope).get("x-request-id", "")
    return header if SAFE_ID.fullmatch(header) else None
