"""Time limits for the arrival of bodies. They apply behind any server."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Code, ServiceError
from service.telemetry.metrics import Metrics


class SlowBodies:
    """ASGI middleware: reading a body that arrives too slowly raises ServiceError `slow_client`.

    Args:
        idle_seconds: maximum pause between two parts of a body.
        total_seconds: maximum time for the whole body.
    """

    def __init__(self, app: ASGIApp, idle_seconds: float, total_seconds: float, metrics: Metrics) -> None:
        self._app = app
        self._idle_seconds = idle_seconds
        self._total_seconds = total_seconds
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            receive = self._timed(receive)
        await self._app(scope, receive, send)

    def _timed(self, receive: Receive) -> Receive:
        deadline: float | None = None  # set by the first read
        is_complete = False

        async def timed() -> Message:
            nonlocal deadline, is_complete
            if is_complete:  # only a disconnect can follow
                return await receive()
            now = asyncio.get_running_loop().time()
            if deadline is None:
                deadline = now + self._total_seconds
            try:
                async with asyncio.timeout_at(min(now + self._idle_seconds, deadline)):
                    message = await receive()
            except TimeoutError as error:
                self._metrics.slow_clients.inc()
                raise ServiceError(Code.SLOW_CLIENT, "The body came too slowly; send it again.") from error
            is_complete = not message.get("more_body", False)
            return message

        return timed
