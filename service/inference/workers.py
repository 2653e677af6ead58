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

    def check(self) -> None:
        """Raises ServiceError `queue_full` if a job would be refused now."""
        if len(self._unfinished) >= self._max_unfinished:
            raise queue_full()

    async def run(self, job: Callable[[], T]) -> Done[T]:
        """Run `job` on one of the threads. Raises ServiceError `queue_full` if too many jobs wait already."""
        self.check()
        return await self._submit(job)

    async def probe(self) -> None:
        """Return once a thread has taken an empty job, which queues behind all others."""
        await self._submit(lambda: None)

    def close(self) -> None:
        """Finish running jobs and drop waiting ones."""
        self._executor.shutdown(cancel_futures=True)

    async def _submit(self, job: Callable[[], T]) -> Done[T]:
        submitted = time.perf_counter()

        def timed() -> Done[T]:
            started = time.perf_counter()
            result = job()
            return Done(result, started - submitted, time.perf_counter() - started)

        future = self._executor.submit(timed)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)  # runs even if the waiting request was cancelled
        return await asyncio.wrap_future(future)
