"""Decisions about connections that need no network."""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import uvicorn

from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.web.connections import (
    BACKLOG,
    METRICS_CONNECTIONS,
    Connection,
    Connections,
    connection_limits,
    metrics_connection_limits,
    raise_file_limit,
)

PARTIAL = b"POST /outer HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{"
INNER = b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(INNER), INNER)
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")


class Wire:
    """A transport that notes what is sent. It is no socket, so that a test decides how bytes arrive."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_closed = self.has_ended = False  # what was sent may end before the connection closes
        self.is_aborted = False
        self.is_reading = True

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed = self.has_ended = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        return None

    def write_eof(self) -> None:
        self.has_ended = True

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def abort(self) -> None:
        self.close()
        self.is_aborted = True


class Talk(NamedTuple):
    """The requests that the application got, as method, path and body, and what the client got."""

    requests: list[tuple[str, str, bytes]]
    headers: list[dict[bytes, bytes]]
    statuses: list[int]
    has_ended: bool
    sent: bytes


def talk(pieces: Sequence[bytes], **settings: object) -> Talk:
    """Send the pieces over one connection to an application that reads every body and answers 200."""
    requests, headers = [], []

    async def application(scope, receive, send) -> None:
        body = b""
        message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        requests.append((scope["method"], scope["path"], body))
        headers.append(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def converse() -> Talk:
        config = uvicorn.Config(application, ws="none", log_config=None)
        connection = Connection(config, Connections(Settings(**settings), Metrics()), {})
        wire = Wire()
        connection.connection_made(wire)
        for piece in pieces:
            connection.data_received(piece)
            for _ in range(10):  # the application answers what is complete
                await asyncio.sleep(0)
        for _ in range(2_000):
            await asyncio.sleep(0)
        statuses = [int(status) for status in re.findall(rb"HTTP/1.1 (\d{3}) ", wire.sent)]
        return Talk(requests, headers, statuses, wire.has_ended, wire.sent)

    return asyncio.run(converse())


def request(*headers: str, body: bytes = INNER, line: str = "POST /outer HTTP/1.1") -> bytes:
    is_chunked = any(header.startswith("Transfer-Encoding") for header in headers)
    framing = [] if is_chunked else [f"Content-Length: {len(body)}"]
    return "\r\n".join([line, "Host: a", *headers, *framing, "", ""]).encode() + body


UPGRADES = {
    "h2c with a length": request(*H2C),
    "h2c with chunks": request(*H2C, "Transfer-Encoding: chunked", body=CHUNKED),
    "h2c and a trailer": request(*H2C, "Transfer-Encoding: chunked", body=CHUNKED[:-2] + b"Upgrade: h2c\r\n\r\n"),
    "websocket": request("Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Version: 13"),
    "several protocols": request("Connection: a", "Connection: Upgrade", "Upgrade: TLS/1.0, IRC/6.9", "Upgrade: h2c"),
    "an unknown protocol, no spaces": request("upgrade:x", "connection:upgrade"),
}


@pytest.mark.parametrize("name", UPGRADES)
@pytest.mark.slow
def test_a_request_that_asks_for_another_protocol_is_read_like_any_other(name):
    """However it arrives: its body is never the next request, and the next request is answered."""
    data = UPGRADES[name] + request(body=b"next", line="POST /next HTTP/1.1")
    splits = [[data], [data[place : place + 1] for place in range(len(data))]]
    splits += [[data[:place], data[place:]] for place in range(1, len(data), 7)]
    for pieces in splits:
        read = talk(pieces)
        assert read.requests == [("POST", "/outer", INNER), ("POST", "/next", b"next")], pieces
        assert read.statuses == [200, 200]
    assert all(b"upgrade" not in headers for headers in read.headers)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "PUT"])
def test_the_body_of_any_method_is_a_body(method):
    line = f"{method} /outer HTTP/1.1"
    for headers in ((), H2C):
        for framing, body in ((), INNER), (("Transfer-Encoding: chunked",), CHUNKED):
            data = request(*headers, *framing, body=body, line=line)
            for pieces in ([data], [data[:-10], data[-10:]]):
                assert talk(pieces).requests == [(method, "/outer", INNER)]


def test_many_requests_that_ask_for_another_protocol_are_answered_in_order():
    requests = [request(*H2C, line=f"POST /{number} HTTP/1.1") for number in range(300)]
    assert [path for _, path, _ in talk([b"".join(requests)]).requests] == [f"/{number}" for number in range(300)]


def test_the_headers_of_a_request_that_asks_for_another_protocol_are_limited():
    for headers in ([f"X-{number}: a" for number in range(100)], [f"X: {'a' * 20_000}"]):
        read = talk([request(*H2C, *headers)])
        assert (read.requests, read.statuses) == ([], [431])


LAST = {
    "Connection: close": request("Connection: close"),
    "Connection: Upgrade, close": request("Connection: Upgrade, close", "Upgrade: h2c"),
    "HTTP/1.0": request(line="POST /outer HTTP/1.0"),
    "HTTP/1.0 and keep-alive": request("Connection: keep-alive", line="POST /outer HTTP/1.0"),
}


@pytest.mark.parametrize("name", LAST)
def test_nothing_after_the_last_request_of_a_connection_is_read(name):
    for rest in (
        INNER,
        INNER * 3,
        b"POST /inner HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
        b"\x16\x03\x01",
    ):
        for pieces in ([LAST[name] + rest], [LAST[name], rest], [LAST[name] + rest[:3], rest[3:]]):
            read = talk(pieces)
            assert (read.requests, read.statuses, read.has_ended) == ([("POST", "/outer", INNER)], [200], True)


@pytest.mark.parametrize(
    "line",
    ["CONNECT a:443 HTTP/1.1", "CONNECT /outer HTTP/1.1", "POST /outer HTTP/2.0", "GET / HTTP/0.9", "PRI * HTTP/2.0"],
)
def test_what_is_no_request_for_this_service_ends_the_connection(line):
    for pieces in ([request(line=line)], [request(line=line)[:-20], request(line=line)[-20:]]):
        read = talk(pieces)
        assert (read.requests, read.statuses, read.has_ended) == ([], [400], True)


CODINGS = ["gzip, chunked", "chunked, gzip", "gzip", "identity", "chunked;q=1", "chunked, chunked", "chunked,", "x", ""]


@pytest.mark.parametrize("extra", [(), H2C])
@pytest.mark.parametrize("codings", [*([coding] for coding in CODINGS), ["gzip", "chunked"], ["chunked", "chunked"]])
def test_any_other_transfer_coding_than_chunked_ends_the_connection(codings, extra):
    headers = [f"Transfer-Encoding: {coding}" for coding in codings]
    data = request(*extra, *headers, body=CHUNKED) + request(body=b"next", line="POST /next HTTP/1.1")
    for pieces in ([data], [data[place : place + 1] for place in range(len(data))]):
        read = talk(pieces)
        assert (read.requests, read.statuses, read.has_ended) == ([], [400], True)


@pytest.mark.parametrize("coding", ["chunked", "CHUNKED", "Chunked ", "\tchunked"])
def test_chunks_are_read_over_http_1_1_only(coding):
    for version, statuses in (("1.1", [200]), ("1.0", [400])):
        line = f"POST /outer HTTP/{version}"
        read = talk([request(f"Transfer-Encoding: {coding}", body=CHUNKED, line=line)])
        assert (read.statuses, bool(read.requests)) == (statuses, version == "1.1")


def test_a_trailer_is_no_header_of_any_request():
    body = b"0\r\nAuthorization: Bearer a\r\nX-Last: b\r\n\r\n"
    read = talk([request("Transfer-Encoding: chunked", body=body) + request("X-Empty:", "X-B: c")])
    assert [sorted(headers) for headers in read.headers] == [
        [b"host", b"transfer-encoding"],
        [b"content-length", b"host", b"x-b", b"x-empty"],
    ]


@pytest.mark.parametrize(("version", "statuses"), [("1.1", [100, 200]), ("1.0", [200])])
def test_only_a_client_of_http_1_1_is_told_to_continue(version, statuses):
    for headers in ((), H2C):
        head = request("Expect: 100-continue", *headers, line=f"POST /outer HTTP/{version}")
        assert talk([head[: -len(INNER)], INNER]).statuses == statuses


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        ("*", b"*"),
        ("https://a.example,https://b.example", b"https://a.example"),
        ("https://b.example", None),
        ("", None),
    ],
)
def test_a_web_page_can_read_the_answer_to_malformed_http(origins, allowed):
    headers = ["Origin: https://a.example", *(f"X-{number}: a" for number in range(100))]
    read = talk([request(*headers)], cors_origins=origins)
    assert read.statuses == [431]
    found = re.search(rb"access-control-allow-origin: ([^\r]+)", read.sent)
    assert (found and found[1]) == allowed


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        (resource.RLIM_INFINITY, (1000, 3048)),
        (1_000_000, (1000, 3048)),
        (2000, (1000, 1936)),
        (1024, (896, 960)),
        (256, (128, 192)),
        (100, (1, 36)),
        (50, (1, 2)),
    ],
)
def test_some_open_files_are_reserved_for_other_uses(monkeypatch, files, limits):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert connection_limits(1000) == limits


@pytest.mark.parametrize(
    ("files", "highest", "raised"),
    [
        (256, 1_000_000, 1000 + BACKLOG + 128),
        (256, resource.RLIM_INFINITY, 1000 + BACKLOG + 128),
        (256, 1024, 1024),
        (1_000_000, 1_000_000, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_the_limit_of_open_files_is_raised_as_far_as_necessary(monkeypatch, files, highest, raised):
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, highest))
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.append(both))

    needed = 1000 + BACKLOG + 128
    assert raise_file_limit(1000) == (raised or (needed if files == resource.RLIM_INFINITY else files), needed)
    assert limits == ([] if raised is None else [(raised, highest)])


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        (resource.RLIM_INFINITY, (16, METRICS_CONNECTIONS)),
        (1_000_000, (16, METRICS_CONNECTIONS)),
        (1000 + BACKLOG + 128, (16, 64)),
        (256, (16, 32)),
        (50, (16, 32)),
    ],
)
def test_the_metrics_port_has_connections_of_its_own(monkeypatch, files, limits):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    _, taken = connection_limits(1000)
    assert metrics_connection_limits(taken) == limits


class Crowd:
    """Connections of one port: 2 of them, and 3 spare ones."""

    def __init__(self, **settings: object) -> None:
        self.metrics = Metrics()
        self.connections = Connections(Settings(**settings), self.metrics, (2, 5))

    def join(self, data: bytes = b"") -> Wire:
        async def application(scope, receive, send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})

        config = uvicorn.Config(application, ws="none", log_config=None)
        connection = Connection(config, self.connections, {})
        wire = Wire()
        wire.connection = connection
        connection.connection_made(wire)
        if data:
            connection.data_received(data)
        return wire

    @property
    def refused(self) -> float:
        lines = self.metrics.render().decode().splitlines()
        return float(next(line for line in lines if line.startswith("mora_connections_refused_total")).split()[1])


def get(target: str, method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def status_of(wire: Wire) -> int:
    found = re.match(rb"HTTP/1.1 (\d{3}) ", wire.sent)
    return int(found[1]) if found else 0


MONITORING = ["/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/metrics"]


@pytest.mark.parametrize(
    ("target", "prefix", "status"),
    [
        *((path, None, 200) for path in MONITORING),
        ("/livez?verbose=1", None, 200),
        ("/%6civez", None, 200),
        ("http://a/livez", None, 200),
        ("/mora/livez", "/mora", 200),
        ("/livez", "/mora", 200),
        ("/tasks", None, 503),
        ("/", None, 503),
        ("/livez/", None, 503),
        ("/tasks?/livez", None, 503),
        ("/mora/livez", None, 503),
        ("/v2/models/livez", None, 503),
        ("/v1/embeddings", None, 503),
        ("/mora/v1/embeddings", "/mora", 503),
    ],
)
@pytest.mark.parametrize("others", [b"", b"GET /livez HTTP/1.1\r\nHost: ", PARTIAL], ids=["idle", "head", "body"])
def test_beyond_the_limit_only_monitoring_is_answered(target, prefix, status, others):
    async def converse() -> tuple[Crowd, Wire]:
        crowd = Crowd(root_path=prefix)
        for _ in range(2):
            crowd.join(others)
        wire = crowd.join(get(target))
        await asyncio.sleep(0.01)
        return crowd, wire

    crowd, wire = asyncio.run(converse())

    assert (status_of(wire), crowd.refused) == (status, float(status == 503))
    assert b"connection: close" in wire.sent.lower()
    assert (b'"error":' in wire.sent) == ("/v1/" in target or target.startswith("/v2/models"))
    assert (b'{"error":{"message":' in wire.sent) == ("/v1/" in target)
    assert wire.has_ended


@pytest.mark.parametrize(
    "others", [b"", b"GET /livez HTTP/1.1\r\nHost: ", get("/tasks")], ids=["idle", "head", "refused"]
)
@pytest.mark.parametrize("count", [3, 4, 50])
def test_a_probe_is_answered_however_many_connections_come_before_it(others, count):
    async def converse() -> tuple[Crowd, list[Wire], Wire]:
        crowd = Crowd()
        for _ in range(2):
            crowd.join()
        strangers = [crowd.join(others) for _ in range(count)]
        probe = crowd.join(get("/livez"))
        await asyncio.sleep(0.01)
        return crowd, strangers, probe

    crowd, strangers, probe = asyncio.run(converse())

    assert status_of(probe) == 200
    assert [wire.is_aborted for wire in strangers] == [True] * (count - 2) + [False] * 2
    assert crowd.refused == (count if others == get("/tasks") else count - 2)


@pytest.mark.parametrize(
    ("waited", "closed"), [([70], []), ([4, 4], []), ([70, 4], [0]), ([70, 6], [0, 1]), ([70, None], [0])]
)
def test_connections_that_wait_for_a_request_are_closed_sooner_if_there_are_many(monkeypatch, waited, closed):
    """Two are many here. None: the connection is in the middle of a request."""
    clock = [1000.0]
    monkeypatch.setattr("service.web.connections.time", SimpleNamespace(monotonic=lambda: clock[0]))

    async def converse() -> list[Wire]:
        crowd, wires = Crowd(), []
        for seconds in waited:
            clock[0] = 1000.0 - (seconds or 0)
            wires.append(crowd.join(get("/livez") if seconds else PARTIAL))
            await asyncio.sleep(0.01)
        clock[0] = 1000.0
        crowd.connections.close_slow()
        return wires

    wires = asyncio.run(converse())

    assert [number for number, wire in enumerate(wires) if wire.is_closed] == closed
    assert not any(wire.is_aborted for wire in wires)


@pytest.mark.parametrize(("method", "has_body"), [("GET", True), ("HEAD", False), ("OPTIONS", True), ("PUT", True)])
def test_a_refused_request_is_answered_in_the_form_of_its_method(method, has_body):
    async def converse() -> Wire:
        crowd = Crowd()
        for _ in range(2):
            crowd.join()
        return crowd.join(get("/tasks", method))

    head, _, body = asyncio.run(converse()).sent.partition(b"\r\n\r\n")

    assert b" 503 " in head.splitlines()[0]
    assert bool(body) == has_body
    assert int(re.search(rb"content-length: (\d+)", head)[1]) > 0


def test_a_spare_connection_without_a_request_is_refused_and_has_room_again_once_others_leave(monkeypatch):
    monkeypatch.setattr("service.web.connections._SPARE_SECONDS", 0.01)

    async def converse() -> tuple[list[int], Wire]:
        crowd = Crowd()
        first, _ = crowd.join(), crowd.join()
        waiting = crowd.join(b"GET /livez HTTP/1.1\r\nHost: ")
        await asyncio.sleep(0.05)
        refused = status_of(waiting)
        for wire in (first, waiting):
            wire.connection.connection_lost(None)
        late = crowd.join()
        await asyncio.sleep(0.05)
        late.connection.data_received(get("/tasks"))
        await asyncio.sleep(0.01)
        return [refused, status_of(late)], late

    statuses, late = asyncio.run(converse())

    assert statuses == [503, 200]
    assert not late.has_ended


@pytest.mark.parametrize(("has_begun", "stays"), [(False, False), (True, True)])
def test_an_answer_that_has_not_begun_announces_the_end_of_its_connection(has_begun, stays):
    """Without the announcement the client would lose its next request."""
    connection = Connection.__new__(Connection)
    connection.cycle = SimpleNamespace(response_complete=False, response_started=has_begun, keep_alive=True)
    connection.end_after_this_request()
    assert connection.cycle.keep_alive == stays


@pytest.mark.parametrize("framing", ["Content-Length", "Transfer-Encoding"])
@pytest.mark.parametrize("size", [1, 1_000, 60_000])
def test_a_connection_reads_no_more_of_a_body_until_the_application_asks(framing, size):
    """So it holds only what arrived at once, and not up to the server's limit of 64 KiB."""
    states = []

    async def converse() -> None:
        asked, may_ask = asyncio.Event(), asyncio.Event()

        async def application(scope, receive, send) -> None:
            await may_ask.wait()
            states.append(wire.is_reading)
            await receive()
            asked.set()
            await receive()

        config = uvicorn.Config(application, ws="none", log_config=None)
        connection = Connection(config, Connections(Settings(), Metrics()), {})
        wire = Wire()
        connection.connection_made(wire)
        part = b"a" * size
        head = ["POST / HTTP/1.1", "Host: a", f"{framing}: {'chunked' if framing[0] == 'T' else 100_000}", "", ""]
        data = "\r\n".join(head).encode() + (b"%x\r\n%s\r\n" % (size, part) if framing[0] == "T" else part)
        connection.data_received(data)
        states.append(wire.is_reading)
        may_ask.set()
        await asked.wait()
        await asyncio.sleep(0)
        states.append(wire.is_reading)
        connection.connection_lost(None)

    asyncio.run(asyncio.wait_for(converse(), 10))

    assert states == [False, False, True]


@pytest.mark.parametrize("begun", [b"", b"5", b"5\r\n", b"5;a=b\r\n"])
def test_reading_goes_on_while_the_application_waits_for_a_chunk_that_has_only_begun(begun):
    async def converse() -> bool:
        async def application(scope, receive, send) -> None:
            await receive()

        config = uvicorn.Config(application, ws="none", log_config=None)
        connection = Connection(config, Connections(Settings(), Metrics()), {})
        wire = Wire()
        connection.connection_made(wire)
        connection.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(0)
        connection.data_received(begun)
        is_reading = wire.is_reading
        connection.connection_lost(None)
        return is_reading

    assert asyncio.run(converse())
