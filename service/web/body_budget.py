"""A limit on the memory of the request bodies in flight. It applies behind any server."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from dataclasses import dataclass, field

from prometheus_client import Gauge
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import queue_full
from service.telemetry.record import RequestRecord
from service.web.small_reads import READ_BYTES

SMALL_BYTES = 65_536


@dataclass(order=True)
class _Body:
    """The body of one request. Requests are ordered by their arrival."""

    number: int
    is_large: bool = field(compare=False)
    arrived_bytes: int = field(default=0, compare=False)
    expected_bytes: int = field(default=0, compare=False)  # of the next read
    turn: asyncio.Future[None] | None = field(default=None, compare=False)


class BodyBudget:
    """ASGI middleware inside `Observation`, whose record it uses: a large body is read as far as memory is free.

    The bytes of a body count from their arrival until the request is answered. Those that Content-Length only
    announces do not count. While the budget is used up, no more of a large body is read, so that its client stops
    sending. Requests get free memory in the order of their arrival. A request that waits for `wait_seconds`, counted
    from its arrival, gets `queue_full`.

    The last part of the budget, as large as the largest body, is lent to one request at a time, which can then read
    its body to the end. Otherwise bodies that have arrived in part would wait for each other.

    Args:
        total_bytes: the budget. Bodies of up to SMALL_BYTES count too, but never wait.
        largest_body_bytes: the limit of one body.
        held: shows the bytes that count.
    """

    def __init__(
        self, app: ASGIApp, total_bytes: int, largest_body_bytes: int, wait_seconds: float, held: Gauge
    ) -> None:
        self._app = app
        self._shared_bytes = total_bytes - largest_body_bytes
        self._wait_seconds = wait_seconds
        self._held = held
        self._used_bytes = 0
        self._numbers = itertools.count()
        self._waiting: list[_Body] = []  # a heap
        self._borrower: _Body | None = None  # has the last part of the budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record: RequestRecord = scope["state"]["record"]
        body = _Body(next(self._numbers), is_large=_announced_bytes(scope) > SMALL_BYTES)
        is_complete = False

        async def receive_in_turn() -> Message:
            nonlocal is_complete
            if body.is_large and not is_complete:  # only a disconnect can follow a complete body
                await self._wait_for_turn(body, record)
            message = await receive()
            self._add(body, len(message.get("body", b"")))
            is_complete = not message.get("more_body", False)
            return message

        try:
            await self._app(scope, receive_in_turn, send)
        finally:
            self._release(body)

    async def _wait_for_turn(self, body: _Body, record: RequestRecord) -> None:
        """Wait until the next bytes may be read. Raises ServiceError `queue_full`."""
        if body is self._borrower:
            return
        body.turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, body)
        self._give_turns()
        try:
            async with asyncio.timeout(record.started + self._wait_seconds - time.perf_counter()):
                await body.turn
        except TimeoutError as error:
            raise queue_full() from error

    def _give_turns(self) -> None:
        """Let the first requests read, as far as the budget allows."""
        while self._waiting:
            first = self._waiting[0]
            if first.turn is not None and not first.turn.done():  # else the request no longer waits
                if self._used_bytes + READ_BYTES > self._shared_bytes:
                    if self._borrower is not None:
                        return
                    self._borrower = first
                first.expected_bytes = READ_BYTES
                self._used_bytes += READ_BYTES
                first.turn.set_result(None)
            heapq.heappop(self._waiting)

    def _add(self, body: _Body, size_in_bytes: int) -> None:
        self._used_bytes += size_in_bytes - body.expected_bytes
        self._held.inc(size_in_bytes)
        body.expected_bytes = 0
        body.arrived_bytes += size_in_bytes
        body.is_large = body.is_large or body.arrived_bytes > SMALL_BYTES
        self._give_turns()

    def _release(self, body: _Body) -> None:
        self._used_bytes -= body.arrived_bytes + body.expected_bytes
        self._held.dec(body.arrived_bytes)
        if body is self._borrower:
            self._borrower = None
        self._give_turns()


def _announced_bytes(scope: Scope) -> int:
    length = Headers(scope=scope).get("content-length", "")
    return int(length[:20]) if length.isdecimal() else 0
