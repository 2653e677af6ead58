"""Threads for blocking work, behind a bounded queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar

from service.errors import queue_full

T = TypeVar("T")


class Done(NamedTuple, Generic[T]):
    """The result of a job, with its time in the queue and on a thread."""

    result: T
    queue_seconds: float
    run_seconds: float


class Workers:
    """A fixed number of threads, and a limit on the number of waiting jobs."""

    def __init__(self, name: str, threads: int, queue_size: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"mora-{name}")
        self._max_unfinished = threads + queue_size
        self._unfinished: set[Future[Any]] = set()
        self._last_progress = 0.0  # when a job last started or ended, or came to idle threads

    def check(self) -> None:
        """Raises ServiceError `queue_full` if a job would be refused now."""
        if len(self._unfinished) >= self._max_unfinished:
            raise queue_full()

    async def run(self, job: Callable[[], T]) -> Done[T]:
        """Run `job` on one of the threads. Raises ServiceError `queue_full` if too many jobs wait already."""
        self.check()
        return await asyncio.wrap_future(self.submit(job))

    def submit(self, job: Callable[[], T]) -> Future[Done[T]]:
        """Run `job` on one of the threads, however many jobs wait."""
        submitted = time.perf_counter()
        if not self._unfinished:
            self._last_progress = submitted

        def timed() -> Done[T]:
            started = self._last_progress = time.perf_counter()
            try:
                result = job()
            finally:
                self._last_progress = time.perf_counter()
            return Done(result, started - submitted, time.perf_counter() - started)

        future = self._executor.submit(timed)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)  # runs even if the waiting request was cancelled
        return future

    def is_stalled(self, seconds: float) -> bool:
        """Whether for so long jobs waited or ran, and none started or ended."""
        return bool(self._unfinished) and time.perf_counter() - self._last_progress > seconds

    def close(self) -> None:
        """Finish running jobs and drop waiting ones."""
        self._executor.shutdown(cancel_futures=True)
