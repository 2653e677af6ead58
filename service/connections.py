"""The server's connections: how many there may be, how long their headers, how slow those at the other end."""

from __future__ import annotations

import asyncio
import resource
import time
import uuid
from typing import cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from service.errors import Code, ServiceError, problem_response
from service.metrics import Metrics
from service.settings import Settings

MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024
_MAX_CHUNKS = 65_536  # of one body: each costs time, however little it holds
_OTHER_FILES = 128  # that the process may open besides its connections


class Connections(ServerState):
    """The open connections of a server, on all its ports."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        super().__init__()
        self.settings = settings
        self.metrics = metrics
        self.limit = connection_limit(settings.max_connections)
        self.draining = False

    def drain(self) -> None:
        """Let each connection end with its present or next request."""
        self.draining = True
        for connection in self._all():
            connection.end_after_this_request()

    def close_slow(self) -> None:
        """Close the connections whose clients take too long; to be called every second or so."""
        now = time.monotonic()
        for connection in self._all():
            if connection.is_slow(now):
                self.metrics.slow_clients.inc()
                connection.transport.abort()

    def _all(self) -> list[Connection]:
        return cast("list[Connection]", list(self.connections))


def connection_limit(wanted: int) -> int:
    """As many connections as wanted, or as the process can have files for."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if files == resource.RLIM_INFINITY else max(1, min(wanted, files - _OTHER_FILES))


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, which waits without end and reads headers of any length, with limits on both.

    A body that is read too slowly by the application is its own affair (`SlowBodies`); here are the headers before it,
    what a refused client goes on sending, and answers that are not fetched.
    """

    server_state: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._headers_since: float | None = time.monotonic()
        self._body_since: float | None = None
        self._unsent_since: float | None = None
        self._header_count = 0
        self._header_bytes = 0
        self._chunks = 0
        self._held_bytes = 0  # since the parser last handed anything on but a header
        self._headers_too_large = False
        if len(self.connections) > self.server_state.limit:
            self.server_state.metrics.connections_refused.inc()
            transport.abort()

    @property
    def is_answering(self) -> bool:
        """Whether a request has come that has no whole answer yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def is_slow(self, now: float) -> bool:
        """Whether the client has had the time it gets for what it does."""
        if self.transport.get_write_buffer_size() == 0:
            self._unsent_since = None
        elif self._unsent_since is None:
            self._unsent_since = now
        settings = self.server_state.settings
        waits = [(self._unsent_since, settings.body_seconds)]
        if not self.is_answering:
            waits += [(self._headers_since, settings.header_seconds), (self._body_since, settings.body_seconds)]
        return any(since is not None and now - since > seconds for since, seconds in waits)

    def end_after_this_request(self) -> None:
        """Say with the answer that the client waits for that the connection ends, unless that answer has begun."""
        if self.is_answering and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def data_received(self, data: bytes) -> None:
        if self._headers_since is None and self._body_since is None and not self.is_answering:
            self._headers_since = time.monotonic()
        for start in range(0, len(data), MAX_HEADER_BYTES):
            piece = data[start : start + MAX_HEADER_BYTES]
            self._held_bytes += len(piece)
            super().data_received(piece)
            if self.transport.is_closing():
                return
            if self._held_bytes > MAX_HEADER_BYTES:
                self._headers_too_large = True
                self.send_400_response("")
                return

    def send_400_response(self, msg: str) -> None:
        if not self._headers_too_large:
            super().send_400_response(msg)
            return
        detail = f"A request may have {MAX_HEADERS} headers, with its path of {MAX_HEADER_BYTES} bytes."
        error = ServiceError(Code.HEADERS_TOO_LARGE, detail)
        self.server_state.metrics.rejected.labels(error.reason).inc()
        if not self.is_answering:
            response = problem_response(error, uuid.uuid4().hex)
            lines = [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
            head = STATUS_LINE[response.status_code] + b"".join(lines) + b"\r\n"
            self.transport.write(head + bytes(response.body))
        self.transport.close()

    def on_message_begin(self) -> None:
        self._header_count = self._header_bytes = self._chunks = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._header_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        self._header_bytes += len(name) + len(value) + len(b": \r\n")
        if self._header_count > MAX_HEADERS or self._header_bytes > MAX_HEADER_BYTES:
            self._headers_too_large = True
            raise ValueError("the headers are too large")  # the parser stops, and send_400_response is called
        if self._body_since is None:  # what comes behind a body is not what was asked
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._held_bytes = 0
        self._headers_since, self._body_since = None, time.monotonic()
        super().on_headers_complete()
        if self.server_state.draining:
            self.cycle.keep_alive = False

    def on_chunk_header(self) -> None:
        """The parser's callback; what it raises is a malformed request to uvicorn."""
        self._chunks += 1
        if self._chunks > _MAX_CHUNKS:
            raise ValueError(f"a body may have {_MAX_CHUNKS} chunks")

    def on_body(self, body: bytes) -> None:
        self._held_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._held_bytes = 0
        self._body_since = None
        if not self.is_answering:  # refused before it was whole: uvicorn's own timer is off by now
            self._headers_since = time.monotonic()
        super().on_message_complete()
