"""Requests that are cut."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import Code, ServiceError
from service.web.inflight import InflightRequests


async def handle(inflight: InflightRequests, seconds: float = 3600) -> object:
    try:
        with inflight.cuttable():
            await asyncio.sleep(seconds)
    except ServiceError as error:
        await asyncio.sleep(0)  # the handler can still send
        return error
    return "answered"


@pytest.mark.parametrize("number", [0, 1, 5])
def test_every_handler_is_cut_and_told_to_come_again(number):
    async def cut() -> list[object]:
        inflight = InflightRequests()
        handlers = [asyncio.create_task(handle(inflight)) for _ in range(number)]
        ready = asyncio.create_task(handle(inflight, 0))
        await ready
        assert inflight.cut() == number
        assert not any(handler.cancelled() for handler in handlers)
        return [*await asyncio.gather(*handlers), await handle(inflight)]

    errors = asyncio.run(cut())

    assert len(errors) == number + 1, "the last one began after the cut"
    assert {(error.code, error.retry_after_seconds) for error in errors} == {(Code.DRAINING, 1)}


def test_a_handler_that_others_cancel_is_cancelled():
    async def cancel() -> None:
        handler = asyncio.create_task(handle(InflightRequests()))
        await asyncio.sleep(0)
        handler.cancel()
        await handler

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())
