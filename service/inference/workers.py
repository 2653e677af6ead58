"""Threads for blocking work, behind a bounded queue."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar

from service.errors import queue_full

T = TypeVar("T")
_LONG_SECONDS = 60.0  # far more than any job takes; a large picture on a busy machine has taken half a minute
_BACKGROUND = 10  # added to the nice value, so a thread gets about a tenth of the time of one without


class Done(NamedTuple, Generic[T]):
    """The result of a job, with its time in the queue and on a thread."""

    result: T
    queue_seconds: float
    run_seconds: float


class Workers:
    """A fixed number of threads, and a limit on the number of waiting jobs.

    Args:
        in_background: whether other threads of the process get a core before these.
    """

    def __init__(self, name: str, threads: int, queue_size: int, in_background: bool = False) -> None:
        initializer = _lower_priority if in_background else None
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"mora-{name}", initializer=initializer)
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
        waiting = [job]  # emptied when it starts or is cancelled: the executor's queue would keep what a job holds

        def timed() -> Done[T]:
            started = self._last_progress = time.perf_counter()
            try:
                result = waiting.pop()()
            finally:
                self._last_progress = time.perf_counter()
            return Done(result, started - submitted, time.perf_counter() - started)

        future = self._executor.submit(timed)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)  # runs even if the waiting request was cancelled
        future.add_done_callback(lambda _: waiting.clear())
        return future

    def is_stalled(self, seconds: float, *, others_wait: bool = False) -> bool:
        """Whether no job started or ended for so long while some waited; for a minute, if all unfinished ones ran.

        Args:
            others_wait: whether jobs that are not submitted yet wait for the end of one.
        """
        unfinished = len(self._unfinished)
        some_wait = others_wait or unfinished > self._threads
        limit = seconds if some_wait else max(seconds, _LONG_SECONDS)
        return unfinished > 0 and time.perf_counter() - self._last_progress > limit

    def close(self) -> None:
        """Finish running jobs and drop waiting ones."""
        self._executor.shutdown(cancel_futures=True)


def _lower_priority() -> None:
    """Lower the priority of the current thread. Only Linux has a priority for each thread."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _BACKGROUND)
