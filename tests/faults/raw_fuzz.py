"""Malformed requests on raw sockets, pipelined for speed; the same ones for the same seed.

A round on one connection is a pipeline of requests whose framing is right and whose content is not, all of which must be
answered, and then one whose framing is damaged too. What that one may expect is what a parser of HTTP makes of it:
answers to whatever is whole, a refusal of what is no HTTP, and nothing for what stops half way.

By hand: `python -m tests.faults.raw_fuzz PORT --seed 1 --requests 100000`, which needs a service on that port.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import quote_from_bytes

import httptools
import numpy as np

from tests.faults.mutation import dice, mutate
from tests.tiny import encode_png

PIPELINED = 12
CONNECTIONS = 8
FOUND = Path(__file__).parents[2] / "build" / "faults"  # where bytes that did harm are kept
_MOST_PROBLEMS = 10
_PICTURE = encode_png(np.arange(768, dtype=np.uint8).reshape(16, 16, 3))


@dataclass(frozen=True)
class Seed:
    """A request that is right."""

    line: bytes
    headers: tuple[bytes, ...]
    body: bytes

    def framed(self, body: bytes, line: bytes | None = None, extra: tuple[bytes, ...] = ()) -> bytes:
        """As bytes, with a Content-Length that fits."""
        length = (b"Content-Length: %d" % len(body),) if self.body else ()
        return b"\r\n".join((line or self.line, b"Host: localhost", *self.headers, *length, *extra, b"", body))


def _post(path: bytes, content_type: bytes, body: bytes) -> Seed:
    return Seed(b"POST %s HTTP/1.1" % path, (b"Content-Type: " + content_type,), body)


def _get(path: bytes) -> Seed:
    return Seed(b"GET %s HTTP/1.1" % path, (), b"")


def _json(path: bytes, value: object) -> Seed:
    return _post(path, b"application/json", json.dumps(value).encode())


def _form(*parts: tuple[bytes, bytes]) -> Seed:
    lines = [b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % part for part in parts]
    return _post(b"/classify", b"multipart/form-data; boundary=x", b"".join(lines) + b"--x--\r\n")


_ENCODED = base64.b64encode(_PICTURE).decode()
SEEDS = (
    _json(b"/classify", {"task": "fruit", "text": "a red apple", "top_k": 2}),
    _json(b"/classify", {"task": "fruit", "image": _ENCODED}),
    _json(b"/classify", {"task": "tags", "image": _ENCODED, "text": "a green square", "version": 1}),
    _form((b"task", b"fruit"), (b"text", b"a red apple")),
    _form((b"task", b"tags"), (b"image", _PICTURE), (b"top_k", b"3")),
    _json(b"/classify/batch", {"inputs": [{"text": "red"}, {"image": _ENCODED}, {"text": 1}], "tasks": ["fruit", "tags", "x"]}),
    _get(b"/tasks"),
    _get(b"/tasks/fruit"),
    _get(b"/livez"),
    _get(b"/readyz"),
    _get(b"/docs"),
)  # fmt: skip
_BODIES = [seed.body for seed in SEEDS if seed.body]
_WHOLE = [seed.framed(seed.body) for seed in SEEDS]
_ODD_HEADERS = (
    b"X-Request-ID: \x1b[31m", b"X-Request-ID: " + b"a" * 300, b"Accept: nonsense", b"Content-Encoding: gzip", b"Expect: 100-continue",
    b"Content-Type: text/plain", b"Content-Type: multipart/form-data", b"Content-Type: multipart/form-data; boundary=\"", b"Range: bytes=0-",
    b"Host: a/livez?x=", b"Cookie: " + b"a=b; " * 200, b"X-Forwarded-For: 127.0.0.1, 127.0.0.1", b"Authorization: Bearer x", b"Accept-Encoding: *",
    b"Content-Type: application/json; charset=utf-16", b"Content-Type: application/\xff",
)  # fmt: skip
_BROKEN_HEADERS = (
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Content-Length: 1, 1", b"Content-Length : 3",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: x", b"Transfer-Encoding:\x0bchunked",
    b"X: a\r\n folded", b"X: " + b"a" * 70_000, b"\r\n".join(b"H%d: x" % n for n in range(300)), b"No colon", b": no name", b"X: \x00", b"X\xff: y",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", b"Connection: close", b"Connection: keep-alive, close",
)  # fmt: skip
_NO_REQUESTS = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), b"GET /\r\n\r\n", b"\r\n\r\n\r\n", b"\n",
    b"GET http://127.0.0.1/livez HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n", b"GET /livez HTTP/1.1\nHost: x\n\n",
    b"GET /livez HTTP/1.0\r\n\r\n", b"POST /classify HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    b"POST /classify HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2;x=" + b"y" * 99 + b"\r\n{}\r\n0\r\nT: r\r\n\r\n",
    b"POST /classify HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 500 + b"0\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
)  # fmt: skip


def well_framed(random: Random) -> bytes:
    """A request whose end everyone can see, and little else that is right."""
    seed = random.choice(SEEDS)
    body = mutate(seed.body, random, _BODIES) if seed.body else b""
    line = None
    if not seed.body or random.random() < 0.05:
        path = quote_from_bytes(mutate(seed.line.split(b" ")[1], random, _BODIES)[:200], safe="/?&=%").encode()
        line = b"%s /%s HTTP/1.1" % (random.choice((b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS")), path.lstrip(b"/"))
    extra = (random.choice(_ODD_HEADERS),) if random.random() < 0.1 else ()
    return seed.framed(body, line, extra)


def badly_framed(random: Random) -> bytes:
    """Bytes of which nobody knows what request they are."""
    seed = random.choice(SEEDS)
    match random.randrange(4):
        case 0:
            return random.choice(_NO_REQUESTS)
        case 1:
            return seed.framed(seed.body, extra=(random.choice(_BROKEN_HEADERS),))
        case 2:
            return mutate(random.choice(_NO_REQUESTS), random, _WHOLE)
        case _:
            return mutate(seed.framed(seed.body), random, _WHOLE)


class Reading:
    """What a parser of HTTP makes of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.whole = 0  # requests
        self.is_refused = False
        try:
            httptools.HttpRequestParser(self).feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.is_refused = True

    def on_message_complete(self) -> None:
        self.whole += 1

    @property
    def answers(self) -> int:
        """How many a client may wait for."""
        return max(self.whole, int(self.is_refused))


@dataclass
class Outcome:
    """What became of the requests."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)  # each names the bytes that were kept
    slowest_seconds: float = 0.0  # between one sign of life and the next, of a connection that was owed an answer

    def __str__(self) -> str:
        statuses = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        return f"{self.sent} sent; {statuses}; slowest {1000 * self.slowest_seconds:.0f} ms"


class _Connection(asyncio.Protocol):
    """One socket; collects the statuses of answers."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.is_closed = False
        self.changed = asyncio.Event()
        self.transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.statuses.append(self._parser.get_status_code())  # an upgrade, or bytes behind the last answer
            self.transport.abort()
        self.changed.set()

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self.statuses.append(self._parser.get_status_code())

    def connection_lost(self, _: Exception | None) -> None:
        self.is_closed = True
        self.changed.set()


class _Attack:
    def __init__(self, port: int, seed: int, hang_seconds: float) -> None:
        self.outcome = Outcome()
        self._port, self._seed, self._hang_seconds = port, seed, hang_seconds

    async def rounds(self, number: int, count: int) -> None:
        """`count` rounds of connection `number`."""
        for round_number in range(count):
            if len(self.outcome.problems) >= _MOST_PROBLEMS:
                return
            random = dice(self._seed, number, round_number)
            pipeline = b"".join(well_framed(random) for _ in range(PIPELINED))
            last = badly_framed(random)
            name = f"{self._seed}-{number}-{round_number}"
            try:
                connection = await self._connect()
            except OSError as error:
                self._note(f"the service takes no connection: {error}", name, b"")
                return
            try:
                await self._exchange(connection, pipeline, PIPELINED, f"{name}-whole")
                if not connection.is_closed:
                    self.outcome.sent += 1
                    await self._exchange(connection, last, Reading(last).answers, f"{name}-raw")
            finally:
                connection.transport.abort()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        return connection

    async def _exchange(self, connection: _Connection, data: bytes, owed: int, name: str) -> None:
        """Send and wait for what is owed; a server may hang up once it has answered or what it reads is no HTTP."""
        before = len(connection.statuses)
        connection.transport.write(data)
        while len(connection.statuses) - before < owed and not connection.is_closed:
            connection.changed.clear()
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self._hang_seconds):
                    await connection.changed.wait()
            except TimeoutError:
                self._note(f"no answer within {self._hang_seconds} s", name, data)
                return
            finally:
                self.outcome.slowest_seconds = max(self.outcome.slowest_seconds, time.perf_counter() - started)
        statuses = connection.statuses[before:]
        self.outcome.sent += len(statuses) if name.endswith("whole") else 0
        self.outcome.statuses.update(statuses)
        if wrong := [status for status in statuses if status >= 500]:
            self._note(f"answered {wrong}", name, data)
        if name.endswith("whole") and not statuses:
            self._note("hung up without an answer", name, data)

    def _note(self, problem: str, name: str, data: bytes) -> None:
        FOUND.mkdir(parents=True, exist_ok=True)
        (FOUND / f"{name}.bin").write_bytes(data)
        self.outcome.problems.append(f"seed {self._seed}: {problem}; the bytes are in {FOUND / name}.bin")


def fuzz(port: int, seed: int, requests: int, hang_seconds: float = 1.0) -> Outcome:
    """Send at least so many requests to a service of tiny tasks `fruit` and `tags`."""

    async def run() -> Outcome:
        attack = _Attack(port, seed, hang_seconds)
        number = 0
        while attack.outcome.sent < requests and len(attack.outcome.problems) < _MOST_PROBLEMS:
            left = -(-(requests - attack.outcome.sent) // (CONNECTIONS * (PIPELINED + 1)))
            await asyncio.gather(*(attack.rounds(number + place, left) for place in range(CONNECTIONS)))
            number += CONNECTIONS  # further rounds in place of requests that a closed connection never took
        return attack.outcome

    return asyncio.run(run())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Send malformed requests to a service on this machine.")
    parser.add_argument("port", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--requests", type=int, default=100_000)
    arguments = parser.parse_args()
    found = fuzz(arguments.port, arguments.seed, arguments.requests)
    sys.stdout.write("\n".join([str(found), *found.problems]) + "\n")
    sys.exit(bool(found.problems))
