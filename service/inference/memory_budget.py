"""A limit on the bytes that jobs use at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from typing import NamedTuple


class _Waiting(NamedTuple):
    size_in_bytes: int
    granted: Future[None]


class MemoryBudget:
    """Bytes to reserve, granted in the order of arrival. Jobs of any thread and event loop may share it."""

    def __init__(self, total_bytes: int) -> None:
        self._lock = threading.Lock()  # guards the attributes below
        self._free_bytes = total_bytes
        self._waiting: deque[_Waiting] = deque()

    @property
    def has_waiting(self) -> bool:
        """Whether a job waits for bytes."""
        return bool(self._waiting)

    async def reserve(self, size_in_bytes: int) -> None:
        """Wait until the bytes, at most the total, are free. The caller must release them."""
        waiting = _Waiting(size_in_bytes, Future())
        with self._lock:
            self._waiting.append(waiting)
            self._grant()
        if waiting.granted.done():
            return
        try:
            await asyncio.wrap_future(waiting.granted)
        except asyncio.CancelledError:
            if waiting.granted.cancel():
                self._leave(waiting)
            else:
                self.release(size_in_bytes)
            raise

    def release(self, size_in_bytes: int) -> None:
        """Free reserved bytes. May be called from any thread."""
        with self._lock:
            self._free_bytes += size_in_bytes
            self._grant()

    def _leave(self, waiting: _Waiting) -> None:
        with self._lock:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            self._grant()

    def _grant(self) -> None:
        while self._waiting and self._waiting[0].size_in_bytes <= self._free_bytes:
            size_in_bytes, granted = self._waiting.popleft()
            if granted.set_running_or_notify_cancel():  # a cancelled one takes no bytes
                self._free_bytes -= size_in_bytes
                granted.set_result(None)
