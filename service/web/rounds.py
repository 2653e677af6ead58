"""Repeated work on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

_log = structlog.get_logger()


class Rounds:
    """Runs a job again and again: some time after it ended, or at once if asked.

    Args:
        job: gets whether it was asked for.
    """

    def __init__(self, job: Callable[[bool], Awaitable[object]], seconds: float) -> None:
        self._job = job
        self._seconds = seconds
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Run the job at once, or once more if it is running now."""
        self._asked.set()

    async def run(self) -> None:
        """Repeat until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._asked.wait()
            is_asked = self._asked.is_set()
            self._asked.clear()
            await self.once(is_asked)

    async def once(self, is_asked: bool = False) -> None:
        """Run the job now. After an error the next round tries again."""
        try:
            await self._job(is_asked)
        except Exception:
            _log.exception("round_failed")
