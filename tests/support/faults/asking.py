"""Requests by a client of HTTP, one after another or several at once, and everything that came back."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.support.problem_code import code_of
from tests.support.tiny import PICTURE

HANG_SECONDS = 60
JSON = "application/json"
ITEM = {"task": "fruit", "image": base64.b64encode(PICTURE).decode(), "text": "a red apple"}


class Sent(NamedTuple):
    """A POST."""

    path: str
    body: bytes
    content_type: str = JSON


@dataclass
class Reply:
    """What came back; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """Of the problem, in OpenAI's form or the usual one; None of an answer."""
        return code_of(self.json)


class Client:
    """One connection, which is kept as long as the service keeps it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection: http.client.HTTPConnection | None = None

    def send(
        self,
        body: bytes | Iterator[bytes] | None,
        content_type: str | None = JSON,
        path: str = "/classify",
        method: str = "POST",
        **headers: str,
    ) -> Reply:
        """One request; the pieces of an iterator go as chunks, and `x_y=` is the header X-Y."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_SECONDS)
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

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _pieces(body: bytes | Iterator[bytes] | None) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body
    elif body is not None:
        yield from (b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in body)
        yield b"0\r\n\r\n"


def as_json(path: str, value: object) -> Sent:
    return Sent(path, json.dumps(value).encode())


def ask(base: str, requests: Iterable[Sent], at_once: int = 16) -> list[Reply]:
    """The answers in the order of the requests, `at_once` of which are under way."""
    numbered, taking, answers = enumerate(requests), threading.Lock(), {}

    def one_after_another(_: int) -> None:
        client = Client(_port(base))
        try:
            while True:
                with taking:
                    number, sent = next(numbered, (None, None))
                if sent is None:
                    return
                answers[number] = client.send(sent.body, sent.content_type, sent.path)
        finally:
            client.close()

    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(one_after_another, range(at_once)))
    return [answers[number] for number in sorted(answers)]


def get(base: str, path: str) -> Reply:
    """The answer to a GET."""
    client = Client(_port(base))
    try:
        return client.send(None, None, path, "GET")
    finally:
        client.close()


def golden(base: str) -> dict[str, object]:
    """What the service says of one item, without what differs from call to call."""
    (answer,) = ask(base, [as_json("/classify", {"task": "fruit", "text": "a red apple"})], at_once=1)
    return {"status": answer.status, "answer": {**answer.json, "latency_ms": None, "request_id": None}}


def label(running: Any, **fields: object) -> dict:
    """The parts of an answer that must not change: version, labels and scores of one fixed item."""
    (answer,) = ask(running.base, [as_json("/classify", {**ITEM, **fields})], at_once=1)
    assert answer.status == 200, answer
    return {name: answer.json[name] for name in ("version", "labels", "modalities")}


def refusal(running: Any, task: str = "fruit") -> dict | None:
    """What the service says it refused."""
    told = get(running.base, f"/tasks/{task}")
    assert told.status == 200, told
    return told.json["refused"]


def scrape(url: str) -> dict[str, float]:
    """Every series of a page of metrics."""
    base, _, path = url.rpartition("/")
    lines = get(base, f"/{path}").body.decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def _port(base: str) -> int:
    return int(base.rsplit(":", 1)[1])
