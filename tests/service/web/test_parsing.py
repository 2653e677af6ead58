"""The thread that parses a body, and the request's deadline."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from starlette.requests import Request

import service.web.parsing
from service.api.item import Batch
from service.api.openai import EmbeddingRequest
from service.api.requests import ClassifyRequest
from service.errors import Code, ServiceError
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.record import RequestRecord, Stage
from service.web.parsing import RequestParser


def request(body: bytes) -> Request:
    async def receive() -> dict:
        return {"type": "http.request", "body": body}

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}, receive)


SHORT, LONG = 2**18, 2**18 + 1  # the longest body that is parsed on the event loop, and a longer one
TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["red"]}
FORMS = {
    "item": [ClassifyRequest],
    "batch": [],
    "inference": [],
    "inputs": [EmbeddingRequest],
}  # arguments of the method
FIELDS = {
    "item": {"text": "red"},
    "batch": {"inputs": [{"text": "red"}], "tasks": ["fruit"]},
    "inference": {"inputs": [TENSOR]},
    "inputs": {"input": "red"},
}
OWN_DEADLINE = {
    "item": {"timeout_ms": 60_000},
    "batch": {"timeout_ms": 60_000},
    "inference": {"parameters": {"timeout": 60_000_000}},
    "inputs": {"timeout_ms": 60_000},
}
THREADS = 4
PARSERS = {"item": "parse_request", "batch": "parse_batch", "inference": "parse_inference", "inputs": "parse_inputs"}


def body_of(method: str, size: int = 0, **fields: object) -> bytes:
    return json.dumps({**FIELDS[method], **fields}).encode().ljust(size)


@pytest.fixture
def parser():
    parser = RequestParser(Settings(timeout_ms=700, queue_size=1), Metrics())
    yield parser
    parser.close()


async def parse(parser: RequestParser, method: str, body: bytes, milliseconds: float = 700) -> RequestRecord:
    """The record of a request with this default deadline, once its body is parsed."""
    record = RequestRecord()
    record.allow(milliseconds)
    await getattr(parser, method)(*FORMS[method], request(body), record)
    return record


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize(("size", "is_inline"), [(SHORT, True), (LONG, False)])
def test_a_short_body_is_parsed_on_the_event_loop_and_a_long_one_on_a_thread(
    parser, monkeypatch, method, size, is_inline
):
    threads = []
    real = getattr(service.web.parsing, PARSERS[method])

    def noting(*arguments: object) -> object:
        threads.append(threading.current_thread())
        return real(*arguments)

    monkeypatch.setattr(service.web.parsing, PARSERS[method], noting)

    record = asyncio.run(parse(parser, method, body_of(method, size)))

    assert [thread is threading.main_thread() for thread in threads] == [is_inline]
    assert (Stage.QUEUE in record.stage_seconds) == (not is_inline)


@pytest.mark.parametrize("size", [0, LONG])
@pytest.mark.parametrize(
    ("method", "fields", "milliseconds"),
    [
        ("item", {"timeout_ms": 50_000}, 50_000),
        ("item", {}, 700),
        ("batch", {"timeout_ms": 50_000}, 50_000),
        ("batch", {}, 700),
        ("inputs", {"timeout_ms": 50_000}, 50_000),
        ("inputs", {"timeout_ms": None}, 700),
        ("inference", {}, 700),
        ("inference", {"parameters": {"timeout": 50_000_000}}, 50_000),
        ("inference", {"parameters": {"timeout": 0}}, 700),
        ("inference", {"parameters": {"timeout": None}}, 700),
    ],
)
def test_a_request_has_its_own_deadline_or_the_default(parser, method, fields, milliseconds, size):
    record = asyncio.run(parse(parser, method, body_of(method, size, **fields)))

    assert record.deadline - record.started == pytest.approx(milliseconds / 1000)


@pytest.fixture
def busy(monkeypatch):
    """Parsing of a body that contains `busy` takes until the event is set."""
    let_go = threading.Event()
    for name in PARSERS.values():
        real = getattr(service.web.parsing, name)

        def held(*arguments: object, real=real) -> object:
            if any(b"busy" in argument for argument in arguments if isinstance(argument, bytes)):
                let_go.wait()
            return real(*arguments)

        monkeypatch.setattr(service.web.parsing, name, held)
    yield let_go
    let_go.set()


BUSY_BODY = body_of("item", LONG, task="busy")


@pytest.mark.parametrize("method", FORMS)
def test_a_short_body_does_not_wait_for_long_ones(parser, busy, method):
    async def scenario() -> None:
        long = [asyncio.create_task(parse(parser, "item", BUSY_BODY)) for _ in range(THREADS + 1)]
        await asyncio.sleep(0)
        await parse(parser, method, body_of(method, SHORT))
        assert not any(task.done() for task in long)
        busy.set()
        await asyncio.gather(*long)

    asyncio.run(scenario())


@pytest.mark.parametrize("method", FORMS)
def test_a_long_body_waits_for_a_thread_until_the_default_deadline(parser, busy, method):
    async def scenario() -> None:
        long = [asyncio.create_task(parse(parser, "item", BUSY_BODY, 60_000)) for _ in range(THREADS)]
        await asyncio.sleep(0)
        with pytest.raises(ServiceError) as caught:
            await parse(parser, method, body_of(method, LONG, **OWN_DEADLINE[method]), 100)
        assert caught.value.code is Code.DEADLINE
        busy.set()
        await asyncio.gather(*long)

    asyncio.run(scenario())


@pytest.mark.parametrize("method", FORMS)
def test_too_many_long_bodies_are_refused(parser, busy, method):
    async def scenario() -> None:
        long = [asyncio.create_task(parse(parser, "item", BUSY_BODY)) for _ in range(THREADS + 1)]
        await asyncio.sleep(0)
        with pytest.raises(ServiceError) as caught:
            await parse(parser, method, body_of(method, LONG))
        assert caught.value.code is Code.QUEUE_FULL
        busy.set()
        await asyncio.gather(*long)

    asyncio.run(scenario())


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize("size", [0, LONG])
def test_a_body_that_arrives_after_the_default_deadline_may_set_a_later_one(parser, method, size):
    late = asyncio.run(parse(parser, method, body_of(method, size, **OWN_DEADLINE[method]), -1))
    assert late.deadline - late.started == pytest.approx(60)

    too_late = asyncio.run(parse(parser, method, body_of(method, size), -1))
    assert too_late.deadline < too_late.started


class Held:
    """Stands in for the parsing of a batch: every run waits until it may end."""

    def __init__(self) -> None:
        self.running: list[int] = []
        self.most_at_once = 0
        self.may_end = threading.Event()

    def __call__(self, body: bytes, *_: object) -> Batch:
        self.running.append(len(body))
        self.most_at_once = max(self.most_at_once, len(self.running))
        self.may_end.wait(30)
        self.running.remove(len(body))
        return Batch([], [], 1, None, None)


@pytest.mark.parametrize(("size", "at_once"), [(1_000_001, 1), (3_000_000, 1), (1_000_000, 3)])
def test_large_bodies_are_parsed_one_at_a_time(monkeypatch, size, at_once):
    held = Held()
    monkeypatch.setattr(service.web.parsing, "parse_batch", held)

    async def scenario() -> None:
        parser = RequestParser(Settings(), Metrics())
        tasks = [asyncio.create_task(parser.batch(request(b" " * size), RequestRecord())) for _ in range(3)]
        small = asyncio.create_task(parser.batch(request(b" " * 300_000), RequestRecord()))
        while sorted(held.running) != [300_000, *[size] * at_once]:
            await asyncio.sleep(0.01)
        held.may_end.set()
        await asyncio.gather(small, *tasks)
        parser.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))

    assert held.most_at_once == at_once + 1


@pytest.mark.parametrize("cancelled", [1, 2, 5])
def test_a_large_body_whose_client_left_is_parsed_to_its_end_before_the_next(monkeypatch, cancelled):
    held = Held()
    monkeypatch.setattr(service.web.parsing, "parse_batch", held)

    async def scenario() -> None:
        parser = RequestParser(Settings(), Metrics())
        tasks = []
        for _ in range(cancelled):
            tasks.append(asyncio.create_task(parser.batch(request(b" " * 1_000_001), RequestRecord())))
            await asyncio.sleep(0.05)
            tasks[-1].cancel()
        await asyncio.sleep(0.05)
        assert not tasks[0].done()  # the memory of its body is not free yet
        tasks.append(asyncio.create_task(parser.batch(request(b" " * 1_000_002), RequestRecord())))
        await asyncio.sleep(0.05)
        assert held.running == [1_000_001]
        held.may_end.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError] * cancelled + [Batch]
        parser.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))
