"""The stacks of threads and tasks in the log."""

from __future__ import annotations

import asyncio
import threading

import pytest

from service.telemetry.stacks import log_stacks


def innermost(events: list, kind: str, name: str) -> str:
    (stack,) = (event["stack"] for event in events if event.get(kind) == name)
    return stack[-1]


def test_every_thread_is_logged_with_its_innermost_function_last(events):
    ended, begun = threading.Event(), threading.Semaphore(0)

    def wait_for_the_end() -> None:
        begun.release()
        ended.wait()

    threads = [threading.Thread(target=wait_for_the_end, name=f"waiting-{number}") for number in range(3)]
    for thread in threads:
        thread.start()
        begun.acquire()
    log_stacks(None)
    ended.set()
    for thread in threads:
        thread.join()

    assert {event["log_level"] for event in events} == {"error"}
    for thread in threads:
        (stack,) = (event["stack"] for event in events if event.get("thread") == thread.name)
        assert any("wait_for_the_end" in line for line in stack)
    assert "log_stacks" in innermost(events, "thread", threading.current_thread().name)


async def waits_for_a_future() -> None:
    await asyncio.get_running_loop().create_future()


async def waits_in_a_generator() -> None:
    async for _ in numbers():
        pass


async def numbers():
    yield 1
    await waits_for_a_future()


async def waits_for_a_coroutine() -> None:
    await waits_for_a_future()


@pytest.mark.parametrize("coroutine", [waits_for_a_future, waits_in_a_generator, waits_for_a_coroutine])
def test_tasks_are_logged_with_the_coroutine_that_waits(events, coroutine):
    async def log() -> None:
        task = asyncio.create_task(coroutine(), name="waiting")
        await asyncio.sleep(0)
        await asyncio.to_thread(log_stacks, asyncio.get_running_loop())
        task.cancel()

    asyncio.run(log())

    (stack,) = (event["stack"] for event in events if event.get("task") == "waiting")
    assert coroutine.__name__ in stack[0]


def test_a_task_that_has_ended_is_not_logged(events):
    async def end() -> None:
        await asyncio.create_task(asyncio.sleep(0), name="ended")
        log_stacks(asyncio.get_running_loop())

    asyncio.run(end())

    assert "ended" not in {event.get("task") for event in events}
