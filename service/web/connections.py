"""The server's connections, with limits on their number, on the size of headers and on slow clients."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from typing import cast
from urllib.parse import unquote

import httptools
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from service.errors import Code, ServiceError, cut_by_drain, queue_full
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.record import RequestRecord
from service.web.answer_transport import AnswerTransport
from service.web.cors import cors_headers
from service.web.monitoring_paths import MONITORING_PATHS
from service.web.observation import conclude
from service.web.problems import problem_response

MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024
_MAX_CHUNKS = 65_536  # of one body; each costs time, however short it is
_OTHER_FILES = 128  # open files that are reserved for other uses than connections
_SPARE_FILES = 64  # of the files reserved for other uses, those that spare connections may take
_SPARE_SECONDS = 1.0  # for a spare connection to send a request
KEPT_SECONDS = 75  # between requests; longer than proxies and clients keep a connection, which usually is 60 seconds
_CROWDED, _KEPT_IF_CROWDED_SECONDS = 0.75, 5.0  # the share of the limit from which connections are kept less long
_SCRAPERS = 16  # connections of the metrics port whose requests are all read
METRICS_CONNECTIONS = 256  # of the metrics port, with the spare ones
_SEND_BUFFER_BYTES = 64 * 1024  # in the kernel; by itself it copies megabytes for a client that does not read
BACKLOG = 2048  # connections that the kernel keeps while the process stands still, and that then come at once


class Connections(ServerState):
    """The open connections of a port.

    Connections beyond `limit` are spare ones. A spare connection gets one answer: the usual one for a monitoring path,
    so that probes and scrapers need not wait until other clients leave; `503 queue_full` for any other path, or if no
    request arrives within a second. Beyond `limit_with_spare` the oldest spare connection is closed for the newest. So
    a probe, which sends its request at once, is answered however many connections other clients open.

    A connection may wait long for its next request: if the service closed it first, the request could be on its way.
    When there are many connections, those that wait are closed sooner.

    Attributes:
        limit: maximum number of connections whose requests are all read.
        limit_with_spare: maximum number of connections. It allows for as many as come at once after a standstill.
    """

    connections: set[Connection]  # type: ignore[assignment]

    def __init__(self, settings: Settings, metrics: Metrics, limits: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.metrics = metrics
        self.limit, self.limit_with_spare = limits or connection_limits(settings.max_connections)
        self.draining = False
        self._spare: dict[Connection, None] = {}  # the oldest first

    def admit(self, connection: Connection) -> None:
        """Make room for a connection that has just been opened."""
        if len(self.connections) <= self.limit:
            return
        self._spare[connection] = None
        connection.loop.call_later(_SPARE_SECONDS, connection.refuse_if_idle)
        if len(self.connections) > self.limit_with_spare:
            closed = next((spare for spare in self._spare if not spare.is_answering), connection)
            self.forget(closed)
            if not closed.is_refused:
                self.metrics.connections_refused.inc()
            closed.transport.abort()

    def forget(self, connection: Connection) -> None:
        """Leave out a connection that is closed."""
        self._spare.pop(connection, None)

    def is_spare(self, connection: Connection) -> bool:
        """Whether there are too many connections for all requests of this one to be read."""
        if len(self.connections) <= self.limit:
            self.forget(connection)
        return connection in self._spare

    def drain(self) -> None:
        """Let each connection end with its current or next request."""
        self.draining = True
        for connection in list(self.connections):
            connection.end_after_this_request()

    def close_slow(self) -> None:
        """Close the connections of slow clients and, if there are many, waiting ones; called about every second."""
        now, is_crowded = time.monotonic(), len(self.connections) > _CROWDED * self.limit
        for connection in list(self.connections):
            if is_crowded and connection.seconds_waiting(now) > _KEPT_IF_CROWDED_SECONDS:
                connection.transport.close()
            elif connection.is_slow(now):
                if not connection.is_counted_as_slow:
                    self.metrics.slow_clients.inc()
                connection.transport.abort()


def connection_limits(max_connections: int) -> tuple[int, int]:
    """The maximum numbers of connections, without and with spare ones, as far as the limit of open files allows."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return max_connections, max_connections + BACKLOG
    limit = max(1, min(max_connections, files - _OTHER_FILES))
    return limit, max(limit + 1, min(limit + BACKLOG, files - _OTHER_FILES + _SPARE_FILES))


def metrics_connection_limits(taken: int) -> tuple[int, int]:
    """The same for the metrics port, beside so many connections of the other port."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = METRICS_CONNECTIONS if files == resource.RLIM_INFINITY else files - taken - _SPARE_FILES
    return _SCRAPERS, max(2 * _SCRAPERS, min(METRICS_CONNECTIONS, left))


def raise_file_limit(max_connections: int) -> tuple[int, int]:
    """Raise this process's limit of open files to what the connections need, as far as the system lets it.

    Returns the limit and the number needed.
    """
    files, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max_connections + BACKLOG + _OTHER_FILES
    if files != resource.RLIM_INFINITY and files < needed:
        allowed = needed if highest == resource.RLIM_INFINITY else min(needed, highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, highest))
        files = allowed
    return needed if files == resource.RLIM_INFINITY else files, needed


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with limits on time and size, and with problem details as the answer to malformed HTTP.

    The time limits apply to headers, to the rest of a refused request and to answers that the client does not read.
    `SlowBodies` limits the time of a body that the application reads. If an answer is sent before the body is complete,
    the connection ends with it, and the rest of the body is dropped, up to the size limit of bodies.
    """

    server_state: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", AnswerTransport(transport, self._may_still_send)))
        if (opened := transport.get_extra_info("socket")) is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self.app = self._with_body_errors(self.app)
        self._headers_since: float | None = time.monotonic()
        self._body_since: float | None = None
        self._unsent_since: float | None = None
        self._header_count = 0
        self._header_bytes = 0
        self._chunks = 0
        self._body_bytes = 0
        self._held_bytes = 0  # bytes since the parser's last callback for anything but a header
        self._keeps_alive = True
        self._waiting_since = 0.0  # for its next request, while uvicorn's timer for that runs
        self._path = ""  # of a request on a spare connection
        self._fault: ServiceError | None = None  # set once the connection has stopped reading
        self.is_counted_as_slow = False  # by `SlowBodies`, whose 408 ends the connection
        self.server_state.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.forget(self)
        super().connection_lost(exc)

    @property
    def is_answering(self) -> bool:
        """Whether a request has no complete answer yet."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_refused(self) -> bool:
        """Whether the connection is read no further."""
        return self._fault is not None

    def is_slow(self, now: float) -> bool:
        """Whether the client has exceeded a time limit."""
        if self.transport.get_write_buffer_size() == 0:
            self._unsent_since = None
        elif self._unsent_since is None:
            self._unsent_since = now
        settings = self.server_state.settings
        limits = [(self._unsent_since, settings.body_seconds)]
        if not self.is_answering:
            limits += [(self._headers_since, settings.header_seconds), (self._body_since, settings.body_seconds)]
        return any(since is not None and now - since > seconds for since, seconds in limits)

    def seconds_waiting(self, now: float) -> float:
        """The time since its last answer if it waits for the next request; else 0."""
        return 0.0 if self.timeout_keep_alive_task is None else now - self._waiting_since

    def refuse_if_idle(self) -> None:
        """Answer `503 queue_full` on a spare connection without a request."""
        is_idle = self._headers_since is not None and not self.is_refused and not self.transport.is_closing()
        if is_idle and self.server_state.is_spare(self):
            self._refuse(self._no_room())

    def end_after_this_request(self) -> None:
        """Announce the end of the connection in the current answer, unless that has begun."""
        if self.is_answering and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """End the connection, but not in the middle of a request's headers."""
        if not self._sends_headers:
            super().shutdown()

    def cut(self) -> bool:
        """Answer `503 draining` to a request whose headers are still arriving. Returns whether there is one."""
        if self._sends_headers:
            self._refuse(cut_by_drain())
            return True
        return False

    @property
    def _sends_headers(self) -> bool:
        return self._held_bytes > 0 and not self.is_answering and not self.is_refused

    def data_received(self, data: bytes) -> None:
        if self._fault is not None or self.transport.is_closing():
            self._drop(data)
            return
        if self._headers_since is None and self._body_since is None and not self.is_answering:
            self._headers_since = time.monotonic()
        self._unset_keepalive_if_required()
        for start in range(0, len(data), MAX_HEADER_BYTES):
            piece = data[start : start + MAX_HEADER_BYTES]
            self._held_bytes += len(piece)
            try:
                self._parse(piece)
                if self._held_bytes > MAX_HEADER_BYTES:
                    raise _headers_too_large()
            except ServiceError as fault:
                self._refuse(fault)
                return
            except httptools.HttpParserError as error:
                raised = error.__context__  # by one of the callbacks below
                if not isinstance(raised, ServiceError):
                    raised = ServiceError(Code.BAD_HTTP, "Send HTTP/1.1, and give the length of a body only once.")
                self._refuse(raised)
                return
        if self._body_since is not None and self.cycle.body:
            self.flow.pause_reading()  # until the application asks for more

    def _parse(self, data: bytes) -> None:
        """Feed the parser. A request that asks for another protocol is parsed again, without its Upgrade header.

        The service knows no other protocol, so it ignores the header and reads the body (RFC 9110, section 7.8). The
        parser would skip the body and take its bytes for the next request.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)

    def _head_without_upgrade(self) -> bytes:
        first = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        lines = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([first, *lines, b"", b""])

    def on_message_begin(self) -> None:
        if self.cycle is not None and not self.cycle.keep_alive:  # the connection ends with the request before this
            raise ServiceError(Code.BAD_HTTP, "Send no request after one that closes the connection.")
        self._header_count = self._header_bytes = self._chunks = self._body_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._header_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        self._header_bytes += len(name) + len(value) + len(b": \r\n")
        if self._header_count > MAX_HEADERS or self._header_bytes > MAX_HEADER_BYTES:
            raise _headers_too_large()
        if self._body_since is None:  # trailers after the body are ignored
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1") or self.parser.get_method() == b"CONNECT":
            raise ServiceError(Code.BAD_HTTP, "Send HTTP/1.1, and do not use this service as a proxy.")
        if self.parser.should_upgrade():
            return  # `_parse` parses the request again
        is_spare = self.server_state.is_spare(self)
        if is_spare:
            self._path = self._path_within_prefix()
            if self._path not in MONITORING_PATHS:
                raise self._no_room()
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (codings != [b"chunked"] or version == "1.0"):  # RFC 9112, section 6.1
            raise ServiceError(Code.BAD_HTTP, "Send the body with Content-Length, or in chunks over HTTP/1.1.")
        self.expect_100_continue = self.expect_100_continue and version == "1.1"  # a 1.0 client takes it for the answer
        super().on_headers_complete()
        self._held_bytes = 0
        self._headers_since, self._body_since = None, time.monotonic()
        self._keeps_alive = self.cycle.keep_alive and not is_spare
        self.cycle.keep_alive = False  # until the body is complete

    def on_chunk_header(self) -> None:
        """The parser's callback."""
        self._chunks += 1
        if self._chunks > _MAX_CHUNKS:
            raise ServiceError(Code.BAD_HTTP, f"A body may have {_MAX_CHUNKS} chunks.")

    def on_body(self, body: bytes) -> None:
        self._held_bytes = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._held_bytes = 0
        self._body_since = None
        if not (self.cycle.response_started or self.server_state.draining):
            self.cycle.keep_alive = self._keeps_alive
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._waiting_since = time.monotonic()
        if self._fault is None or self.is_answering:
            return
        if self.transport.is_closing():
            self._headers_since = time.monotonic()  # limits the time for the client to read the answer
        else:
            self._answer(self._fault)

    def _path_within_prefix(self) -> str:
        path = unquote(httptools.parse_url(self.url).path.decode("ascii"))
        return path.removeprefix(self.server_state.settings.root_path or "")

    def _no_room(self) -> ServiceError:
        self.server_state.metrics.connections_refused.inc()
        return queue_full()

    def _refuse(self, fault: ServiceError) -> None:
        """Stop reading. The malformed request gets its answer after the answers to earlier pipelined requests."""
        self._fault = fault
        if self._body_since is not None:  # the application is reading it
            self.cycle.message_event.set()
        elif not self.is_answering:
            self._answer(fault)

    def _answer(self, fault: ServiceError) -> None:
        record = RequestRecord(problem=fault.code.reason)
        cors = cors_headers(self.server_state.settings.cors_origins, Headers(raw=self.headers or []))
        own = {"X-Content-Type-Options": "nosniff", "X-Request-ID": record.request_id, "Connection": "close"}
        response = problem_response(fault, record.request_id, {**own, **cors}, self._path)
        headers = [*self.server_state.default_headers, *response.raw_headers]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        body = b"" if self.parser.get_method() == b"HEAD" else bytes(response.body)
        self.transport.write(STATUS_LINE[response.status_code] + b"".join(lines) + b"\r\n" + body)
        conclude(record, self.server_state.metrics, response.status_code)
        self._headers_since = time.monotonic()
        self.transport.close()

    def _with_body_errors(self, app: ASGIApp) -> ASGIApp:
        """The application, which gets a ServiceError when it reads a malformed body. Its 408 is noted."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            async def receive_or_raise() -> Message:
                message = await receive()
                if self._fault is not None and self._body_since is not None and scope is self.scope:
                    raise self._fault
                return message

            async def send_and_note(message: Message) -> None:
                if message["type"] == "http.response.start" and message["status"] == Code.SLOW_CLIENT.status:
                    self.is_counted_as_slow = True
                await send(message)

            await app(scope, receive_or_raise, send_and_note)

        return application

    def _may_still_send(self) -> bool:
        is_unread = self._body_since is not None or self._fault is not None
        return is_unread and not self._is_over_limit

    def _drop(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._is_over_limit:
            self.transport.close()

    @property
    def _is_over_limit(self) -> bool:
        return self._body_bytes > self.server_state.settings.max_body_bytes


def _headers_too_large() -> ServiceError:
    detail = f"A request may have {MAX_HEADERS} headers, and {MAX_HEADER_BYTES} bytes of headers and path."
    return ServiceError(Code.HEADERS_TOO_LARGE, detail)
