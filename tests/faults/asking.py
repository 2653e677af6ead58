"""Requests over HTTP, several at once, and everything that came back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import aiohttp

HANG_SECONDS = 60


class Sent(NamedTuple):
    """A POST."""

    path: str
    body: bytes
    content_type: str = "application/json"


class Answer(NamedTuple):
    """What came back, and after how long."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def as_json(path: str, value: object) -> Sent:
    return Sent(path, json.dumps(value).encode())


def ask(base: str, requests: Iterable[Sent], at_once: int = 16) -> list[Answer]:
    """The answers in the order of the requests, `at_once` of which are under way."""

    async def run() -> list[Answer]:
        numbered, answers = enumerate(requests), {}
        timeout = aiohttp.ClientTimeout(total=HANG_SECONDS)
        async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:

            async def one_after_another() -> None:
                for number, sent in numbered:
                    started = time.perf_counter()
                    headers = {"Content-Type": sent.content_type}
                    async with session.post(sent.path, data=sent.body, headers=headers) as response:
                        body = await response.read()
                    answers[number] = Answer(
                        response.status, dict(response.headers), body, time.perf_counter() - started
                    )

            await asyncio.gather(*(one_after_another() for _ in range(at_once)))
        return [answers[number] for number in sorted(answers)]

    return asyncio.run(run())


def golden(base: str) -> dict[str, object]:
    """What the service says of one item, without what differs from call to call."""
    (answer,) = ask(base, [as_json("/classify", {"task": "fruit", "text": "a red apple"})])
    return {"status": answer.status, "answer": {**answer.json, "latency_ms": None, "request_id": None}}


def get(base: str, path: str) -> Answer:
    """The answer to a GET."""

    async def run() -> Answer:
        started = time.perf_counter()
        timeout = aiohttp.ClientTimeout(total=HANG_SECONDS)
        async with aiohttp.ClientSession(base, timeout=timeout) as session, session.get(path) as response:
            body = await response.read()
        return Answer(response.status, dict(response.headers), body, time.perf_counter() - started)

    return asyncio.run(run())
