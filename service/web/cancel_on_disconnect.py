"""Cancellation of requests whose client has disconnected."""

from __future__ import annotations

import asyncio
from typing import cast

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class CancelOnDisconnect:
    """ASGI middleware: once a request's body is complete, its handler is cancelled if the connection closes.

    The handler stays in the current task, as with `asyncio.timeout`, so that the middleware around it finishes before
    the client's next request is read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":  # only POST requests take long
            await self._app(scope, receive, send)
            return
        handler = cast("asyncio.Task[object]", asyncio.current_task())
        watcher: asyncio.Task[None] | None = None
        has_disconnected = False

        async def watch() -> None:
            nonlocal has_disconnected
            while (await receive())["type"] != "http.disconnect":
                pass
            has_disconnected = True
            handler.cancel()

        async def receive_and_watch() -> Message:
            nonlocal watcher
            message = await receive()
            if watcher is None and message["type"] == "http.request" and not message.get("more_body", False):
                watcher = asyncio.create_task(watch())
            return message

        async def send_and_stop(message: Message) -> None:
            if watcher is not None and not message.get("more_body", False) and message["type"] == "http.response.body":
                watcher.cancel()  # the end of an answer looks like a disconnect
            await send(message)

        try:
            await self._app(scope, receive_and_watch, send_and_stop)
        except asyncio.CancelledError:
            if not has_disconnected:
                raise
            handler.uncancel()
            raise ClientDisconnect from None
        finally:
            if watcher is not None:
                watcher.cancel()
