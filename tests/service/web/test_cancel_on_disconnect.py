"""The requests of clients that disconnect."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import ClientDisconnect

from service.web.cancel_on_disconnect import CancelOnDisconnect


def test_the_handler_of_a_client_that_disconnects_is_cancelled():
    cancelled = asyncio.Event()

    async def endless(scope, receive, send) -> None:
        while (await receive()).get("more_body"):
            pass
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async def scenario() -> None:
        messages = [
            {"type": "http.request", "body": b"a", "more_body": True},
            {"type": "http.request", "body": b"b"},
            {"type": "http.disconnect"},
        ]

        async def receive() -> dict:
            return messages.pop(0)

        with pytest.raises(ClientDisconnect):
            await CancelOnDisconnect(endless)({"type": "http", "method": "POST"}, receive, None)
        assert cancelled.is_set()

    asyncio.run(asyncio.wait_for(scenario(), 10))


LAST = {"type": "http.response.body", "body": b"answered"}


@pytest.mark.parametrize("outcome", ["answered", ZeroDivisionError])
def test_a_handler_that_ends_before_a_disconnect_is_not_cancelled(outcome):
    async def app(scope, receive, send) -> None:
        await receive()
        await send(LAST)
        if outcome is ZeroDivisionError:
            raise ZeroDivisionError

    async def scenario() -> None:
        sent: list[object] = []
        stays = asyncio.Event()
        messages = [{"type": "http.request", "body": b"all"}]

        async def receive() -> dict:
            if not messages:
                await stays.wait()
            return messages.pop(0)

        async def send(message: object) -> None:
            sent.append(message)

        answered = CancelOnDisconnect(app)({"type": "http", "method": "POST"}, receive, send)
        if outcome is ZeroDivisionError:
            with pytest.raises(ZeroDivisionError):
                await answered
        else:
            await answered
        assert sent == [LAST]

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_the_middleware_around_a_handler_finishes_before_the_next_request():
    """A metric that is counted after the answer must be complete before the client's next request is read."""
    order: list[str] = []

    async def app(scope, receive, send) -> None:
        await receive()
        await send(LAST)

    async def scenario() -> None:
        messages = [{"type": "http.request", "body": b"all"}]

        async def receive() -> dict:
            return messages.pop() if messages else await asyncio.sleep(60)

        async def send(message: object) -> None:
            asyncio.get_running_loop().call_soon(order.append, "the next request")

        await CancelOnDisconnect(app)({"type": "http", "method": "POST"}, receive, send)
        order.append("counted")
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert order == ["counted", "the next request"]
