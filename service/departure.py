"""Stops answering a client that has left."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Departure:
    """ASGI middleware: once a request's body is there, its handler is cancelled when the connection closes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":  # nothing else takes long
            await self._app(scope, receive, send)
            return
        complete = asyncio.Event()

        async def noted() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                complete.set()
            return message

        answering = asyncio.ensure_future(self._app(scope, noted, send))
        leaving = asyncio.ensure_future(_left(complete, receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ClientDisconnect
        finally:
            leaving.cancel()
            answering.cancel()  # changes nothing where it is done
            with suppress(asyncio.CancelledError):
                await answering


async def _left(complete: asyncio.Event, receive: Receive) -> None:
    await complete.wait()
    while (await receive())["type"] != "http.disconnect":
        pass
