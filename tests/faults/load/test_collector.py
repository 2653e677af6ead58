"""A collector of traces that is down, silent or failing: requests are answered and SIGTERM ends the service."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from tests.faults.conftest import Running
from tests.support.faults.raw_http import events_named
from tests.support.sampling import each
from tests.support.waiting import wait_until


@contextmanager
def down() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    yield port


@contextmanager
def silent() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


class _Failing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(500)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def receiving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        yield collector.server_port
        collector.shutdown()
        thread.join()


def failing() -> AbstractContextManager[int]:
    return receiving(_Failing)


@pytest.mark.parametrize("collector", each([down, silent, failing], tried=[silent]))
@pytest.mark.slow
def test_requests_are_answered_while_the_collector_is(collector, shelf, server, monkeypatch, counts, reliability):
    shelf.publish("fruit")
    requests, answered = counts(10, 3000), 0
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")  # milliseconds
    with collector() as port:
        running = server(shelf.store, traces_endpoint=f"http://127.0.0.1:{port}/v1/traces")
        for _ in range(requests):
            body, kind = b'{"text": "red"}', {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{running.base}/classify", body, kind)
            with urllib.request.urlopen(request, timeout=30) as response:
                answered += "labels" in json.load(response)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0

    wait_until(lambda: len(traces_in_log(running)) >= answered, 10)
    traces = traces_in_log(running)
    what = f"{requests} requests, the collector of traces {collector.__name__}"
    measured = f"{answered} answered, {len(traces)} traces named in the log, stopped when told"
    reliability(what, "all answered and named", measured, answered == len(traces) == requests)


def traces_in_log(running: Running) -> set[str]:
    return {event["trace_id"] for event in events_named(running, "request")}


class _Keeping(BaseHTTPRequestHandler):
    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


WITH_TELEMETRY_OF_FASTAPI = """
import sys
from starlette.testclient import TestClient
import service.web.app
from service.settings import Settings
service.web.app._NO_TELEMETRY = {}
with TestClient(service.web.app.create_app(Settings(store=sys.argv[1]))) as client:
    assert client.get("/hunter2?q=hunter2").status_code == 404
"""


def test_control_the_traces_of_fastapi_hold_the_path(shelf, monkeypatch, reliability):
    """The same variables as in `test_no_variable_turns_on_traces_that_hold_paths`, whose service sends no path."""
    shelf.publish("fruit")
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    with receiving(_Keeping) as port:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        command = [sys.executable, "-c", WITH_TELEMETRY_OF_FASTAPI, str(shelf.store.root)]
        subprocess.run(command, timeout=120, check=True)

    found = any(b"hunter2" in body for body in _Keeping.bodies)
    reliability("*control*: a service that leaves FastAPI's own traces on", "found", f"found: {found}", found)
