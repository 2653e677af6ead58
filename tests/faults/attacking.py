"""A service under attack: requests as they should never be, and the proof that they did no harm."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from PIL import Image

from tests.tiny import PICTURE
from tests.waiting import wait_until

JSON = "application/json"
FORM = "multipart/form-data; boundary=x"


def as_json(**fields: object) -> bytes:
    """The body of a good request, with some fields changed."""
    return json.dumps({"task": "fruit", "text": "a red apple", **fields}).encode()


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def as_form(*parts: tuple[str, bytes], end: bytes = b"--x--\r\n") -> bytes:
    lines = [
        b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), v) for name, v in parts
    ]
    return b"".join(lines) + end


def encoded(picture: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """Of the problem; None of an answer."""
        return self.json.get("code")


@dataclass
class Target:
    """A running service that has answered before, so that nothing it opens once is opened during an attack."""

    running: Any
    _connection: http.client.HTTPConnection | None = field(default=None)

    def __post_init__(self) -> None:
        self._golden = self.golden_answer()
        self.close()
        previous = -1
        while previous != (previous := self.running.open_files):  # until the sockets of its start are closed
            time.sleep(0.1)
        self._open_files = previous

    def send(
        self,
        body: bytes | Iterator[bytes] | None,
        content_type: str | None = JSON,
        path: str = "/classify",
        method: str = "POST",
        **headers: str,
    ) -> Reply:
        """One request on a connection that is kept as long as the service keeps it; `x_y=` is the header X-Y."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.running.port, timeout=60)
        connection = self._connection
        connection.putrequest(method, path)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if content_type is not None:
            connection.putheader("Content-Type", content_type)
        if isinstance(body, bytes):
            connection.putheader("Content-Length", str(len(body)))
        elif body is not None:
            connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        with suppress(ConnectionError):  # the service may answer and close before it has all of the body
            for piece in _pieces(body):
                connection.send(piece)
        try:
            response = connection.getresponse()
            return Reply(response.status, {n.lower(): value for n, value in response.getheaders()}, response.read())
        except Exception:
            self.close()
            raise

    def send_raw(self, data: bytes, patience_seconds: float = 3.0) -> tuple[bytes, bool]:
        """What comes back for these bytes, and whether the service has then closed the connection."""
        with socket.create_connection(("127.0.0.1", self.running.port), timeout=20) as connection:
            received = b""
            try:
                with suppress(ConnectionError):
                    connection.sendall(data)
                while not _is_whole(received):
                    part = connection.recv(65_536)
                    if not part:
                        return received, True
                    received += part
                connection.settimeout(patience_seconds)
                return received, not connection.recv(1)
            except TimeoutError:
                return received, False
            except ConnectionError:
                return received, True

    def golden_answer(self) -> tuple[object, ...]:
        """What it says of one good item, to the last bit."""
        reply = self.send(as_json(image=as_base64(PICTURE)))
        assert reply.status == 200, reply
        return tuple((label["label"], label["score"].hex(), label["selected"]) for label in reply.json["labels"])

    def rejected(self) -> dict[str, float]:
        """`mora_rejected_total` by reason."""
        text = self.send(None, None, "/metrics", "GET").body.decode()
        found = re.findall(r'^mora_rejected_total\{reason="(.*)"\} (.*)$', text, flags=re.MULTILINE)
        return {reason: float(value) for reason, value in found}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def unharmed(self, **counted: int) -> Iterator[None]:
        """Exactly these rejections are counted, by reason; afterwards it answers as ever and has no more files open."""
        before = self.rejected()
        yield
        after = self.rejected()
        rise = {reason: after[reason] - before.get(reason, 0) for reason in after}
        assert {reason: number for reason, number in rise.items() if number} == counted
        assert self.send(None, None, "/livez", "GET").status == 200
        assert self.golden_answer() == self._golden
        self.close()
        assert wait_until(lambda: self.running.open_files == self._open_files, 20), "files are left open"
        assert self.running.process.poll() is None


def _pieces(body: bytes | Iterator[bytes] | None) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body
    elif body is not None:
        yield from (b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in body)
        yield b"0\r\n\r\n"


def _is_whole(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    return bool(found) and length is not None and len(body) >= int(length[1])


def assert_problem(reply: Reply, status: int, code: str, *never: str) -> None:
    """It has the one form of all problems, and repeats nothing of `never`."""
    assert reply.headers["content-type"] == "application/problem+json", reply
    problem = reply.json
    assert (reply.status, problem["code"]) == (status, code), problem
    assert list(problem) == ["type", "title", "status", "detail", "code", "request_id"]
    assert (problem["type"], problem["status"]) == (f"urn:mora:problem:{code}", status)
    assert len(reply.body) <= 1024
    for text in never:
        assert text not in reply.body.decode() + str(reply.headers)
