"""A server between a client and a place: it counts bytes, and alters, cuts or redirects what the place answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3

_OF_A_HOP = {"connection", "transfer-encoding", "content-length", "date", "server", "keep-alive"}


@dataclass
class Answer:
    """What a client gets. `body` may be shorter or longer than `length` says."""

    status: int
    headers: dict[str, str]
    body: bytes
    length: int | None = None  # of the header; None: that of the body
    chunks: Iterator[bytes] | None = None  # in place of the body, without a length

    def with_body(self, body: bytes, status: int | None = None) -> Answer:
        self.body = body
        self.status = status or self.status
        return self


@dataclass
class Request:
    """What a client asked for."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Between:
    """`alter(request, answer)` returns the answer that the client gets."""

    upstream: str
    host: str = ""
    alter: Callable[[Request, Answer], Answer] = lambda request, answer: answer
    requests: list[Request] = field(default_factory=list)
    received_bytes: int = 0  # bodies of requests
    sent_bytes: int = 0  # bodies of answers
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def between(upstream: str) -> Iterator[Between]:
    """A running server in front of another one, such as `http://127.0.0.1:5000`; an empty address: in front of none."""
    state = Between(upstream)
    pool = urllib3.PoolManager(retries=False, maxsize=16)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(
                self.command, self.path, {name.title(): value for name, value in self.headers.items()}, body
            )
            answer = Answer(404, {}, b"")
            if state.upstream:
                passed = {name: value for name, value in self.headers.items() if name.lower() not in _OF_A_HOP}
                given = pool.request(
                    self.command, state.upstream + self.path, body=body, headers=passed, redirect=False
                )
                kept = {name: value for name, value in given.headers.items() if name.lower() not in _OF_A_HOP}
                length = int(given.headers["Content-Length"]) if self.command == "HEAD" else None
                answer = Answer(given.status, kept, given.data, length)
            with state.lock:
                state.requests.append(request)
                state.received_bytes += len(body)
            answer = state.alter(request, answer)
            with state.lock:
                state.sent_bytes += len(answer.body)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.chunks is None:
                self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command == "HEAD":
                return
            for piece in [answer.body] if answer.chunks is None else answer.chunks:
                self.wfile.write(piece)
            self.close_connection = self.close_connection or answer.length not in (None, len(answer.body))

        def log_message(self, *arguments: object) -> None:
            """Nothing: requests are in `requests`."""

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH"):
        setattr(Handler, f"do_{method}", Handler.answer)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *arguments: object) -> None:
            """A client may leave before the end of an answer."""

    with Server(("127.0.0.1", 0), Handler) as server:
        state.host = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
            pool.clear()
