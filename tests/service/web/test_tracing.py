"""Traces: a span for each request and each stage, without input, for a collector that may be down."""

from __future__ import annotations

import base64
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import ValidationError
from starlette.testclient import TestClient
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from typer.testing import CliRunner

from service.cli import app as cli
from service.settings import Settings
from service.web.app import create_app
from service.web.tracing import Tracing, close

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
STAGES = {"decode", "tokenize", "queue", "image_encoder", "text_encoder", "head"}


@pytest.fixture
def traced(shelf) -> Iterator[tuple[TestClient, InMemorySpanExporter]]:
    """A client of a service with a task, and the exporter of its spans."""
    shelf.publish("fruit")
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = create_app(Settings(store=shelf.store.root, intra_op_threads=1, encoder_workers=1))
    app.add_middleware(Tracing, tracer=provider.get_tracer("test"))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, exporter
    provider.shutdown()


def item(picture: bytes | None = None, text: str | None = None) -> dict[str, object]:
    image = None if picture is None else base64.b64encode(picture).decode()
    return {"task": "fruit", "image": image, "text": text}


def split(exporter: InMemorySpanExporter) -> tuple:
    """The span of the only request, and the spans of its stages."""
    spans = exporter.get_finished_spans()
    (request,) = [span for span in spans if span.kind is SpanKind.SERVER]
    return request, [span for span in spans if span is not request]


def test_a_request_is_one_span_with_a_child_for_each_stage(traced, picture):
    client, exporter = traced

    answer = client.post("/classify", json=item(picture, "a red apple"))

    request, stages = split(exporter)
    assert request.name == "POST /classify"
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/classify",
        "http.response.status_code": 200,
        "mora.request_id": answer.json()["request_id"],
        "mora.task": "fruit",
        "mora.version": 1,
        "mora.modalities": "both",
    }
    assert request.status.status_code is StatusCode.UNSET
    assert {stage.name for stage in stages} == STAGES
    for stage in stages:
        assert stage.parent.span_id == request.context.span_id
        assert request.start_time <= stage.start_time <= stage.end_time <= request.end_time
    seconds = sum(stage.end_time - stage.start_time for stage in stages if stage.name == "queue") / 1e6
    assert answer.json()["latency_ms"]["queue"] == pytest.approx(seconds, abs=0.01)


def test_stages_follow_each_other(traced, picture):
    client, exporter = traced
    client.post("/classify", json=item(picture, "a red apple"))
    ended = {stage.name: stage.end_time for stage in split(exporter)[1]}
    began = {stage.name: stage.start_time for stage in split(exporter)[1]}

    assert ended["decode"] <= began["tokenize"] + 1000
    for encoder in ("image_encoder", "text_encoder"):
        assert ended["tokenize"] <= began[encoder] + 1000
        assert ended[encoder] <= began["head"] + 1000


def test_encoders_that_ran_one_after_the_other_have_spans_one_after_the_other(traced, picture, occupied, sample):
    client, exporter = traced
    with ThreadPoolExecutor(1) as pool:
        with occupied(client, "image"):
            answer = pool.submit(client.post, "/classify", json=item(picture, "a red apple"))
            deadline = time.monotonic() + 30
            while not sample(client, 'mora_batch_size_count{encoder="text"}') and time.monotonic() < deadline:
                time.sleep(0.01)
        assert answer.result(30).status_code == 200

    stages = {stage.name: stage for stage in split(exporter)[1]}
    assert stages["text_encoder"].end_time < stages["image_encoder"].start_time


def test_a_stage_that_did_not_run_has_no_span(traced):
    client, exporter = traced
    client.post("/classify", json=item(text="a red apple"))
    assert {stage.name for stage in split(exporter)[1]} == STAGES - {"decode", "image_encoder"}


def test_the_trace_of_the_client_is_continued_and_its_id_is_logged(traced):
    client, exporter = traced
    with capture_logs(processors=[merge_contextvars]) as events:
        client.post("/classify", json=item(text="red"), headers=TRACEPARENT)

    request, _ = split(exporter)
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert [event["trace_id"] for event in events if event["event"] == "request"] == [TRACE]


def test_a_trace_that_the_client_does_not_sample_is_not_exported(traced):
    client, exporter = traced
    with capture_logs(processors=[merge_contextvars]) as events:
        client.post("/classify", json=item(text="red"), headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert exporter.get_finished_spans() == ()
    assert [event["trace_id"] for event in events if event["event"] == "request"] == [TRACE]


@pytest.mark.parametrize(
    "header", ["", "00", "x" * 10_000, f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE}-\xe9-01"]
)
def test_an_invalid_traceparent_begins_a_new_trace(traced, header):
    client, exporter = traced
    answer = client.post("/classify", json=item(text="red"), headers={"traceparent": header.encode("latin-1")})

    assert answer.status_code == 200
    request, _ = split(exporter)
    assert request.parent is None
    assert f"{request.context.trace_id:032x}" != TRACE


def test_a_refusal_has_its_reason_and_only_a_failure_is_an_error(traced, monkeypatch):
    client, exporter = traced
    client.post("/classify", json={"task": "nothing", "text": "red"})
    refused, _ = split(exporter)
    assert refused.attributes["error.type"] == "unknown_task"
    assert refused.attributes["http.response.status_code"] == 404
    assert refused.status.status_code is StatusCode.UNSET

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    exporter.clear()
    monkeypatch.setattr(client.app.state.engine, "decide", fail)
    client.post("/classify", json=item(text="red"))
    failed, _ = split(exporter)
    assert failed.attributes["error.type"] == "internal"
    assert failed.status.status_code is StatusCode.ERROR


def test_no_span_contains_input(traced):
    client, exporter = traced
    marker = "hunter2"
    client.post(f"/classify?q={marker}", json=item(text=marker), headers={"X-Request-ID": marker, "Cookie": marker})
    client.get(f"/{marker}")
    client.get(f"/tasks/{marker}")
    client.request(marker, "/classify")
    client.post("/classify", json={"task": marker, "text": marker, marker: marker})

    spans = exporter.get_finished_spans()
    assert len(spans) >= 5
    assert [span.name for span in spans if marker in span.to_json()] == []
    assert {span.name for span in spans} >= {"GET", "GET /tasks/{task}", "POST /classify"}


def test_probes_leave_no_trace(traced):
    client, exporter = traced
    for path in ("/livez", "/readyz", "/metrics"):
        assert client.get(path).status_code == 200
    assert exporter.get_finished_spans() == ()


def test_a_large_batch_has_a_bounded_number_of_spans(traced):
    client, exporter = traced
    answer = client.post("/classify/batch", json={"inputs": [{"text": "red"}] * 100, "tasks": ["fruit"]})
    assert answer.status_code == 200
    _, stages = split(exporter)
    assert len(stages) == 64


class Collector:
    """An OTLP/HTTP receiver that keeps the spans that it receives."""

    def __init__(self) -> None:
        self.received: list[ExportTraceServiceRequest] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.base = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def spans(self) -> dict[str, object]:
        return {
            span.name: span
            for request in self.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def test_a_collector_receives_the_spans_by_otlp(shelf, serve, collector):
    shelf.publish("fruit")
    app = create_app(Settings(store=shelf.store.root, traces_endpoint=f"{collector.base}/v1/traces"))
    with TestClient(app) as client:
        assert client.post("/classify", json=item(text="red"), headers=TRACEPARENT).status_code == 200

    (resource,) = {request.resource_spans[0].resource.SerializeToString() for request in collector.received}
    assert b"service.name" in resource
    assert b"mora-serve" in resource
    assert collector.spans.keys() == STAGES - {"decode", "image_encoder"} | {"POST /classify"}
    assert {span.trace_id.hex() for span in collector.spans.values()} == {TRACE}
    request = collector.spans.pop("POST /classify")
    assert request.parent_span_id.hex() == PARENT
    assert {value.key: value.value.int_value for value in request.attributes}["mora.version"] == 1


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def test_requests_are_answered_while_the_collector_is_down_or_silent(shelf, serve, monkeypatch):
    monkeypatch.setattr("service.web.tracing._EXPORT_SECONDS", 0.5)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # milliseconds: exports fail while requests are answered
    shelf.publish("fruit")
    with silent_port() as silent:
        for port in (closed_port(), silent):
            app = create_app(Settings(store=shelf.store.root, traces_endpoint=f"http://127.0.0.1:{port}/v1/traces"))
            with TestClient(app) as client:
                for _ in range(20):
                    assert client.post("/classify", json=item(text="red")).status_code == 200
                    time.sleep(0.02)


def test_closing_waits_for_a_slow_collector_for_a_limited_time(monkeypatch):
    monkeypatch.setattr("service.web.tracing._CLOSING_SECONDS", 0.1)
    released, provider = threading.Event(), TracerProvider(shutdown_on_exit=False)

    class Stuck(SpanProcessor):
        def shutdown(self) -> None:
            released.wait(60)

    provider.add_span_processor(Stuck())
    started = time.monotonic()
    close(provider)
    assert time.monotonic() - started < 30
    released.set()


LOADED = """
import sys
from starlette.testclient import TestClient
from service.web.app import create_app
from service.settings import Settings
settings = Settings(store=sys.argv[1], traces_endpoint=sys.argv[2] if len(sys.argv) > 2 else None)
with TestClient(create_app(settings)) as client:
    assert client.post("/classify", json={"text": "red"}).status_code == 200
print(sorted(name for name in sys.modules if name in ("opentelemetry.sdk.trace", "requests", "google.protobuf")))
"""


@pytest.mark.parametrize("with_traces", [False, True])
@pytest.mark.slow
def test_neither_sdk_nor_exporter_is_loaded_without_an_endpoint(shelf, collector, with_traces):
    shelf.publish("fruit")
    endpoint = [f"{collector.base}/v1/traces"] if with_traces else []
    command = [sys.executable, "-c", LOADED, str(shelf.store.root), *endpoint]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    expected = "['google.protobuf', 'opentelemetry.sdk.trace', 'requests']" if with_traces else "[]"
    assert done.stdout.splitlines()[-1:] == [expected], done.stderr


FROM_THE_ENVIRONMENT = """
import sys
from starlette.testclient import TestClient
from service.settings import Settings
from service.web.app import create_app
with TestClient(create_app(Settings(store=sys.argv[1]))) as client:
    assert client.get("/hunter2?q=hunter2").status_code == 404
"""


def test_environment_variables_cannot_turn_on_fastapis_traces_with_paths(shelf, collector, monkeypatch):
    """FastAPI's own traces hold paths. tests/faults/load/test_collector.py shows that these variables turn them on."""
    shelf.publish("fruit")
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.base)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    command = [sys.executable, "-c", FROM_THE_ENVIRONMENT, str(shelf.store.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert not any("hunter2" in str(request) for request in collector.received)


def test_an_endpoint_without_the_extra_is_refused_at_start(monkeypatch):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("service.settings.metadata.version", missing)
    with pytest.raises(ValidationError, match="need the extra otel"):
        Settings(traces_endpoint="http://127.0.0.1:4318/v1/traces")
    result = CliRunner().invoke(cli, ["run", "--traces-endpoint", "http://127.0.0.1:4318/v1/traces"])
    assert result.exit_code == 2
    assert "extra otel" in re.sub(r"\s+", " ", result.output)


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector/", ""])
def test_an_endpoint_that_is_no_http_url_is_refused(endpoint):
    with pytest.raises(ValidationError):
        Settings(traces_endpoint=endpoint)
