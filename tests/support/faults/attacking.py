"""A service under attack: requests as they should never be, and the proof that they did no harm."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from PIL import Image

from tests.support.faults.asking import Client, Reply
from tests.support.faults.raw_http import exchange
from tests.support.tiny import PICTURE
from tests.support.waiting import wait_until

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


class Target(Client):
    """A running service that has answered before, so that nothing it opens once is opened during an attack."""

    def __init__(self, running: Any) -> None:
        super().__init__(running.port)
        self.running = running
        self._golden = self.golden_answer()
        self.close()
        previous = -1
        while previous != (previous := self.running.open_files):  # until the sockets of its start are closed
            time.sleep(0.1)
        self._open_files = previous

    def send_raw(self, data: bytes, patience_seconds: float = 3.0) -> tuple[bytes, bool]:
        """What comes back for these bytes, and whether the service has then closed the connection."""
        return exchange(self.port, data, patience_seconds)

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

    @contextmanager
    def unharmed(self, **counted: int) -> Iterator[None]:
        """Exactly these rejections are counted, by reason; afterwards it answers as ever and has no more files open."""
        before = self.rejected()
        yield
        self.close()  # the service may be about to close the connection, which was idle
        after = self.rejected()
        rise = {reason: after[reason] - before.get(reason, 0) for reason in after}
        assert {reason: number for reason, number in rise.items() if number} == counted
        assert self.send(None, None, "/livez", "GET").status == 200
        assert self.golden_answer() == self._golden
        self.close()
        assert wait_until(lambda: self.running.open_files == self._open_files, 20), "files are left open"
        assert self.running.process.poll() is None


def reply_of(data: bytes) -> Reply:
    """The one answer that these bytes are."""
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert len(body) == int(headers["content-length"]), data
    return Reply(int(status.split()[1]), headers, body)


def assert_problem(reply: Reply, status: int, code: str, *never: str) -> None:
    """It has the one form of all problems, and repeats nothing of `never`."""
    assert reply.headers["content-type"] == "application/problem+json", reply
    problem = reply.json
    assert (reply.status, problem["code"]) == (status, code), problem
    assert list(problem) == ["type", "title", "status", "detail", "code", "request_id"]
    assert (problem["type"], problem["status"]) == (f"urn:mora:problem:{code}", status)
    assert len(reply.body) <= 1024
    said = (reply.body.decode() + str(reply.headers)).replace(problem["request_id"], "")  # random digits say anything
    for text in never:
        assert text not in said
