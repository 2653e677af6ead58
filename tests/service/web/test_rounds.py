"""Work that repeats on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from service.web.rounds import Rounds

LONG = 3600.0


def run(seconds: float, act: Callable[[Rounds], object], until: int, error: Exception | None = None) -> list[bool]:
    """Whether each of the first rounds was asked for; each fails with `error`."""
    calls: list[bool] = []

    async def job(is_asked: bool) -> None:
        calls.append(is_asked)
        if error is not None:
            raise error

    async def repeat() -> None:
        rounds = Rounds(job, seconds)
        task = asyncio.create_task(rounds.run())
        await asyncio.sleep(0)
        act(rounds)
        while len(calls) < until:
            await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(repeat())
    return calls[:until]


def test_a_job_repeats_by_itself():
    assert run(0.001, lambda rounds: None, 3) == [False, False, False]


@pytest.mark.parametrize("times", [1, 2, 100])
def test_a_job_runs_at_once_if_asked(times):
    assert run(LONG, lambda rounds: [rounds.ask() for _ in range(times)], 1) == [True]


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError(), OSError(24, "files")])
def test_an_error_does_not_end_the_rounds(events, error):
    assert run(0.001, lambda rounds: None, 3, error) == [False] * 3
    assert {event["event"] for event in events} == {"round_failed"}
