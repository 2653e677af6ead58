"""The thread that parses a body, the request's deadline, and the refusal before parsing."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from starlette.requests import Request

import service.web.parsing
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
