"""A service on loopback with planted faults: it answers, refuses, resets, truncates or stalls as a test says."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import NamedTuple

ANSWER = {
    "task": "fruit",
    "version": 1,
    "labels": [{"label": "apple", "score": 0.75, "selected": True}],
    "modalities": {"image": "absent", "text": "used"},
    "latency_ms": dict.fromkeys(("decode", "tokenize", "queue", "image_encoder", "text_encoder", "head", "total"), 1.0),
    "request_id": "a1",
}
STALL_SECONDS = 30.0


class Reply(NamedTuple):
    """The answer to one attempt."""

    status: int = 200
    content: bytes = json.dumps(ANSWER).encode()
    headers: Mapping[str, str] = MappingProxyType({})
    breaks: str = ""  # `reset` before the answer, `truncated` within it, `stalls` before it, or `endless`
    pause_seconds: float = 0.0  # before each repetition of the content of an endless answer


OK, RESET, TRUNCATED, STALLS = Reply(), Reply(breaks="reset"), Reply(breaks="truncated"), Reply(breaks="stalls")


def problem(status: int, code: str, **headers: str) -> Reply:
    """A problem of the service; `Retry_After="1"` adds that header."""
    content = json.dumps({"status": status, "code": code, "detail": "Said so.", "request_id": "a2", "title": ""})
    return Reply(status, content.encode(), {name.replace("_", "-"): value for name, value in headers.items()})


class Attempt(NamedTuple):
    """The request of a client."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    client_port: int


class FaultyService(ThreadingHTTPServer):
    """Answers each attempt with the next `reply()`, one thread at a time, and records the attempts."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, reply: Callable[[], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.attempts: list[Attempt] = []
        self.stop = threading.Event()
        self._reply, self._lock = reply, threading.Lock()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, attempt: Attempt) -> Reply:
        with self._lock:
            self.attempts.append(attempt)
            return self._reply()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the client to acknowledge its headers
    server: FaultyService

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        reply = self.server.take(Attempt(self.command, self.path, dict(self.headers), body, self.client_address[1]))
        if reply.breaks == "stalls":
            self.server.stop.wait(STALL_SECONDS)
        self.close_connection = bool(reply.breaks)
        if reply.breaks in ("reset", "stalls"):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST, no FIN
            return
        self.send_response(reply.status)
        length = {} if reply.breaks == "endless" else {"Content-Length": str(len(reply.content))}
        for name, value in {**length, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        while reply.breaks == "endless" and not self.server.stop.wait(reply.pause_seconds):
            try:
                self.wfile.write(reply.content)
            except OSError:  # the client has left
                return
        self.wfile.write(reply.content[: len(reply.content) // 2] if reply.breaks == "truncated" else reply.content)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def faulty_service(reply: Callable[[], Reply]) -> Iterator[FaultyService]:
    """`faulty_service(reply)`: it runs until the end of the block."""
    with FaultyService(reply) as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield service
        finally:
            service.stop.set()
            service.shutdown()
            thread.join()
