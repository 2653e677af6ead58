"""The thread that parses a body, the request's deadline, and the refusal before parsing."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from starlette.requests import Request

import service.web.parsing
from service.api.item import Batch
from service.api.requests import ClassifyRequest
from service.errors import Code, ServiceError
from service.inference.workers import Workers
from service.settings import Settings
from service.telemetry.record import RequestRecord, Stage
from service.web.parsing import RequestParser


def request(body: bytes) -> Request:
    async def receive() -> dict:
        return {"type": "http.request", "body": body}

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}, receive)


def item(**fields: object) -> bytes:
    return json.dumps({"text": "red", **fields}).encode()


@pytest.fixture
def parse():
    """`parse(body, method="item", form=...)`: the parsed request and its record."""
    preparation = Workers("preparation", 1, 0)
    parser = RequestParser(Settings(timeout_ms=700), preparation)

    def run(body: bytes, method: str = "item", *form: type) -> tuple[object, RequestRecord]:
        record = RequestRecord()
        return asyncio.run(getattr(parser, method)(*form, request(body), record)), record

    run.preparation = preparation
    yield run
    parser.close()
    preparation.close()


@pytest.mark.parametrize(("size", "is_inline"), [(4096, True), (4097, False)])
def test_a_short_body_is_parsed_on_the_event_loop_and_a_long_one_on_a_thread(parse, monkeypatch, size, is_inline):
    threads = []
    real = service.web.parsing.parse_request

    def noting(*arguments: object) -> ClassifyRequest:
        threads.append(threading.current_thread())
        return real(*arguments)

    monkeypatch.setattr(service.web.parsing, "parse_request", noting)

    parsed, record = parse(item().ljust(size), "item", ClassifyRequest)

    assert parsed.text == "red"
    assert [thread is threading.main_thread() for thread in threads] == [is_inline]
    assert (Stage.QUEUE in record.stage_seconds) == (not is_inline)


@pytest.mark.parametrize(
    ("method", "form", "fields", "milliseconds"),
    [
        ("item", [ClassifyRequest], {"timeout_ms": 50}, 50),
        ("item", [ClassifyRequest], {}, 700),
        ("batch", [], {"timeout_ms": 50}, 50),
        ("batch", [], {}, 700),
        ("inference", [], {}, 700),
        ("inference", [], {"parameters": {"timeout": 50_000}}, 50),
        ("inference", [], {"parameters": {"timeout": 0}}, 700),
        ("inference", [], {"parameters": {"timeout": None}}, 700),
    ],
)
def test_a_request_has_its_own_deadline_or_the_settings(parse, method, form, fields, milliseconds):
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["red"]}
    bodies = {
        "item": item(**fields),
        "batch": json.dumps({"inputs": [{"text": "red"}], "tasks": ["fruit"], **fields}).encode(),
        "inference": json.dumps({"inputs": [tensor], **fields}).encode(),
    }

    _, record = parse(bodies[method], method, *form)

    assert record.deadline - record.started == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize("body", [b"not json", b"not json".ljust(5000)])
def test_a_request_is_refused_before_its_body_is_parsed_while_preparation_is_full(parse, body):
    release = threading.Event()

    async def scenario() -> None:
        busy = asyncio.create_task(parse.preparation.run(release.wait))
        await asyncio.sleep(0)
        with pytest.raises(ServiceError) as caught:
            await asyncio.to_thread(parse, body, "item", ClassifyRequest)
        assert caught.value.code is Code.QUEUE_FULL
        release.set()
        await busy

    asyncio.run(scenario())
    with pytest.raises(ServiceError) as caught:
        parse(body, "item", ClassifyRequest)
    assert caught.value.code is Code.BAD_JSON


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
        return Batch([], [], 1, None)


@pytest.mark.parametrize(("size", "at_once"), [(1_000_001, 1), (3_000_000, 1), (1_000_000, 3)])
def test_large_bodies_are_parsed_one_at_a_time(monkeypatch, size, at_once):
    held = Held()
    monkeypatch.setattr(service.web.parsing, "parse_batch", held)

    async def scenario() -> None:
        parser = RequestParser(Settings(), Workers("preparation", 1, 0))
        tasks = [asyncio.create_task(parser.batch(request(b" " * size), RequestRecord())) for _ in range(3)]
        small = asyncio.create_task(parser.batch(request(b" " * 5_000), RequestRecord()))
        while sorted(held.running) != [5_000, *[size] * at_once]:
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
        parser = RequestParser(Settings(), Workers("preparation", 1, 0))
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
