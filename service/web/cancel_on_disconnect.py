"""Stops answering a client that has left."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class CancelOnDisconnect:
    """ASGI middleware: once a request's body is there, its handler is cancelled when the connection closes.

    The handler stays in its own task, as with `asyncio.timeout`: whoever is around it goes on at once when it is done,
    before the client can have sent another request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":  # nothing else takes long
            await self._app(scope, receive, send)
            return
        handler = asyncio.current_task()
        leaving: asyncio.Task[None] | None = None
        has_left = False

        async def leave() -> None:
            nonlocal has_left
            while (await receive())["type"] != "http.disconnect":
                pass
            has_left = True
            if handler is not None:
                handler.cancel()

        async def noted() -> Message:
            nonlocal leaving
            message = await receive()
            if leaving is None and message["type"] == "http.request" and not message.get("more_body", False):
                leaving = asyncio.create_task(leave())
            return message

        async def answer(message: Message) -> None:
            if leaving is not None and not message.get("more_body", False) and message["type"] == "http.response.body":
                leaving.cancel()  # the last of it: to be done with a request looks like a disconnect
            await send(message)

        try:
            await self._app(scope, noted, answer)
        except asyncio.CancelledError:
            if not has_left or handler is None:
                raise
            handler.uncancel()
            raise ClientDisconnect from None
        finally:
            if leaving is not None:
                leaving.cancel()
