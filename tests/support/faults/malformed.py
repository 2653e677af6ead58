"""Requests to damage, the damage, and what a client may then wait for."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass
from random import Random
from urllib.parse import quote_from_bytes

import httptools
import numpy as np

from tests.support.faults.mutation import mutate
from tests.support.tiny import encode_png

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


_ENCODED = b64encode(_PICTURE).decode()
SEEDS = (
    _json(b"/classify", {"task": "fruit", "text": "a red apple", "top_k": 2}),
    _json(b"/classify", {"task": "fruit", "image": _ENCODED}),
    _json(b"/classify", {"task": "tags", "image": _ENCODED, "text": "a green square", "version": 1}),
    _form((b"task", b"fruit"), (b"text", b"a red apple")),
    _form((b"task", b"tags"), (b"image", _PICTURE), (b"top_k", b"3")),
    _json(
        b"/classify/batch",
        {"inputs": [{"text": "red"}, {"image": _ENCODED}, {"text": 1}], "tasks": ["fruit", "tags", "x"]},
    ),
    _json(b"/v1/moderations", {"input": ["a red apple", "green"], "model": "tags"}),
    _json(
        b"/v1/embeddings",
        {"input": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_ENCODED}"}}], "model": "fruit"},
    ),
    _get(b"/tasks"),
    _get(b"/tasks/fruit"),
    _get(b"/livez"),
    _get(b"/readyz"),
    _get(b"/docs"),
)
_POSTS = [seed for seed in SEEDS if seed.body]
_BODIES = [seed.body for seed in _POSTS]
_WHOLE = [seed.framed(seed.body) for seed in SEEDS]
_ODD_HEADERS = (
    b"X-Request-ID: \x1b[31m",
    b"X-Request-ID: " + b"a" * 300,
    b"Accept: nonsense",
    b"Content-Encoding: gzip",
    b"Expect: 100-continue",
    b"Content-Type: text/plain",
    b"Content-Type: multipart/form-data",
    b'Content-Type: multipart/form-data; boundary="',
    b"Range: bytes=0-",
    b"Host: a/livez?x=",
    b"Cookie: " + b"a=b; " * 200,
    b"X-Forwarded-For: 127.0.0.1, 127.0.0.1",
    b"Authorization: Bearer x",
    b"Accept-Encoding: *",
    b"Content-Type: application/json; charset=utf-16",
    b"Content-Type: application/\xff",
)
_BROKEN_HEADERS = (
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 1, 1",
    b"Content-Length : 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: x",
    b"Transfer-Encoding:\x0bchunked",
    b"X: a\r\n folded",
    b"X: " + b"a" * 70_000,
    b"\r\n".join(b"H%d: x" % n for n in range(300)),
    b"No colon",
    b": no name",
    b"X: \x00",
    b"X\xff: y",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    + b64encode(bytes(16)),
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c",
    b"Connection: close",
    b"Connection: keep-alive, close",
)
_NO_REQUESTS = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    b"GET /\r\n\r\n",
    b"\r\n\r\n\r\n",
    b"\n",
    b"GET http://127.0.0.1/livez HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET /livez HTTP/1.1\nHost: x\n\n",
    b"GET /livez HTTP/1.0\r\n\r\n",
    b"POST /classify HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    b"POST /classify HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2;x="
    + b"y" * 99
    + b"\r\n{}\r\n0\r\nT: r\r\n\r\n",
    b"POST /classify HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 500 + b"0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
)


def well_framed(random: Random) -> bytes:
    """A request whose end everyone can see, and little else that is right."""
    seed = random.choice(_POSTS if random.random() < 0.8 else SEEDS)  # there is little to damage in a GET
    body = mutate(seed.body, random, _BODIES) if seed.body else b""
    line = None
    if not seed.body or random.random() < 0.05:
        path = quote_from_bytes(mutate(seed.line.split(b" ")[1], random, _BODIES)[:200], safe="/?&=%").encode()
        line = b"%s /%s HTTP/1.1" % (random.choice((b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS")), path.lstrip(b"/"))
    extra = (random.choice(_ODD_HEADERS),) if random.random() < 0.1 else ()
    return seed.framed(body, line, extra)


def badly_framed(random: Random) -> bytes:
    """Bytes with damaged framing."""
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
