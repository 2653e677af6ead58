"""A collector of traces that is down, silent or failing: requests are answered and SIGTERM ends the service."""

from __future__ import annotations

import json
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


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
def failing() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Failing) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        yield collector.server_port
        collector.shutdown()
        thread.join()


@pytest.mark.parametrize("collector", [down, silent, failing])
def test_requests_are_answered_while_the_collector_is(collector, shelf, server, monkeypatch, counts, reliability):
    shelf.publish("fruit")
    requests, answered = counts(30, 3000), 0
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

    traces = {event["trace_id"] for event in running.events if event["event"] == "request"}
    what = f"{requests} requests, the collector of traces {collector.__name__}"
    measured = f"{answered} answered, {len(traces)} traces named in the log, stopped when told"
    reliability(what, "all answered and named", measured, answered == len(traces) == requests)
