from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import weakref
from functools import partial

import pytest

from service.errors import Code, ServiceError
from service.inference.workers import Workers


def test_jobs_beyond_the_queue_are_refused_at_once():
    async def scenario() -> None:
        workers, release = Workers("test", threads=1, queue_size=2), threading.Event()
        accepted = [asyncio.create_task(workers.run(release.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(ServiceError) as caught:
            await workers.run(release.wait)
        assert caught.value.code is Code.QUEUE_FULL
        release.set()
        await asyncio.gather(*accepted)
        assert (await workers.run(lambda: 7)).result == 7
        workers.close()

    asyncio.run(scenario())


def test_threads_without_progress_are_stalled_only_while_they_have_work():
    async def scenario() -> None:
        workers, release = Workers("test", threads=1, queue_size=2), threading.Event()
        assert not workers.is_stalled(0.05)
        accepted = [asyncio.create_task(workers.run(release.wait)) for _ in range(2)]
        await asyncio.sleep(0.02)
        assert not workers.is_stalled(60)
        await asyncio.sleep(0.1)
        assert workers.is_stalled(0.05)
        release.set()
        await asyncio.gather(*accepted)
        await asyncio.sleep(0.1)
        assert not workers.is_stalled(0.05)
        workers.close()

    asyncio.run(scenario())


def test_a_long_job_is_no_stall_while_no_other_waits_for_a_thread(monkeypatch):
    async def scenario() -> None:
        workers, release = Workers("test", threads=2, queue_size=2), threading.Event()
        long = asyncio.create_task(workers.run(release.wait))
        await asyncio.sleep(0.1)
        assert not workers.is_stalled(0.05)
        monkeypatch.setattr("service.inference.workers._LONG_SECONDS", 0.05)
        assert workers.is_stalled(0.05)
        release.set()
        await long
        workers.close()

    asyncio.run(scenario())


def test_a_cancelled_job_keeps_nothing_in_memory():
    class Picture:
        """What a job holds."""

    async def scenario() -> None:
        workers, release = Workers("test", threads=1, queue_size=10), threading.Event()
        running = asyncio.create_task(workers.run(release.wait))
        pictures = [Picture() for _ in range(10)]
        seen = [weakref.ref(picture) for picture in pictures]
        waiting = [asyncio.create_task(workers.run(partial(id, picture))) for picture in pictures]
        await asyncio.sleep(0.01)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0)  # until the jobs are cancelled, too
        del pictures, waiting, task
        gc.collect()
        kept = [ref() for ref in seen]
        release.set()
        await running
        workers.close()
        assert kept == [None] * 10

    asyncio.run(scenario())


def test_a_failed_or_cancelled_job_leaves_the_queue():
    async def scenario() -> None:
        workers, release = Workers("test", threads=1, queue_size=1), threading.Event()
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
        running, queued = (asyncio.create_task(workers.run(release.wait)) for _ in range(2))
        await asyncio.sleep(0.01)
        with pytest.raises(ServiceError):
            workers.check()
        queued.cancel()
        await asyncio.sleep(0.01)
        workers.check()
        release.set()
        done = await running
        assert done.run_seconds > 0
        await workers.run(lambda: None)
        workers.close()

    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority for each thread")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("in_background", [True, False])
def test_threads_in_the_background_have_a_lower_priority_than_the_others(threads, in_background):
    workers = Workers("test", threads, 10, in_background)
    together = threading.Barrier(threads)

    def nice_value() -> int:
        together.wait(10)  # so that each thread runs one job
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    jobs = [workers.submit(nice_value) for _ in range(threads)]
    values = {job.result(10).result for job in jobs}
    workers.close()

    assert values == {min(19, own + 10)} if in_background else values == {own}
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
