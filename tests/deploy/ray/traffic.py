"""Continuous requests, sent as a load balancer would: a request that one proxy fails goes to the other once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count
from types import TracebackType
from typing import Self

import aiohttp

from benchmarks.load import arrivals

_ATTEMPT_SECONDS = 10.0
_BODY = b'{"text": "a red apple"}'


class Traffic:
    """Poisson arrivals until the end of the `with` block, to the proxies in turn."""

    def __init__(self, proxies: Sequence[str], per_second: float) -> None:
        self._proxies = proxies
        self._per_second = per_second
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send_all()))
        self.sent = 0
        self.retried: Counter[str] = Counter()  # by what the first attempt met
        self.lost: list[tuple[str, str]] = []  # what both attempts met
        self.answers: list[tuple[float, int]] = []  # when it was sent, and the version that answered
        self.slowest_seconds = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    @property
    def figures(self) -> str:
        first = ", ".join(f"{name} {number}" for name, number in sorted(self.retried.items()))
        retried = f"{self.retried.total()} retried ({first})" if self.retried else "0 retried"
        return f"{self.sent} requests, {retried}, {len(self.lost)} lost, slowest {self.slowest_seconds:.1f} s"

    async def _send_all(self) -> None:
        timeout, headers = aiohttp.ClientTimeout(total=_ATTEMPT_SECONDS), {"Content-Type": "application/json"}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session, asyncio.TaskGroup() as sending:
            start, turn = time.monotonic(), count()
            for offset in arrivals(self._per_second, 3600, seed=0):
                await asyncio.sleep(start + offset - time.monotonic())
                if self._over.is_set():
                    return
                self.sent += 1
                sending.create_task(self._send(session, next(turn)))

    async def _send(self, session: aiohttp.ClientSession, turn: int) -> None:
        begun = time.monotonic()
        first = await self._attempt(session, turn, begun)
        if first is not None:
            self.retried[first] += 1
            second = await self._attempt(session, turn + 1, begun)
            if second is not None:
                self.lost.append((first, second))
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - begun)

    async def _attempt(self, session: aiohttp.ClientSession, turn: int, begun: float) -> str | None:
        """What went wrong, if it did."""
        proxy = turn % len(self._proxies)
        try:
            async with session.post(f"{self._proxies[proxy]}/classify", data=_BODY) as response:
                if response.status != 200:
                    return f"{response.status} of proxy {proxy}"
                self.answers.append((begun, (await response.json())["version"]))
                return None
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{type(error).__name__} of proxy {proxy}"
