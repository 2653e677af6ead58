"""Reservations are granted in the order of arrival, and cancelled ones leave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from service.inference.memory_budget import MemoryBudget

TOTAL = 10


class Reservations:
    """Reservations of a budget by name, and those that were granted, in this order."""

    def __init__(self) -> None:
        self.budget = MemoryBudget(TOTAL)
        self.granted: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(self, name: str, size: int) -> None:
        self.tasks[name] = asyncio.create_task(self._reserve(name, size))
        await settled()

    async def release(self, size: int) -> None:
        self.budget.release(size)
        await settled()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.wait([self.tasks[name]])
        await settled()

    async def _reserve(self, name: str, size: int) -> None:
        await self.budget.reserve(size)
        self.granted.append(name)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def scenario(steps: Callable[[Reservations], Awaitable[None]]) -> None:
    """Run the steps. Afterwards the whole budget is free."""

    async def run() -> None:
        reservations = Reservations()
        await steps(reservations)
        await asyncio.wait_for(reservations.budget.reserve(TOTAL), 20)

    asyncio.run(run())


@pytest.mark.parametrize("sizes", [(TOTAL,), (4, 6), (3, 3, 3), (0, 1, 9)])
def test_free_bytes_are_granted_at_once(sizes):
    async def steps(reservations: Reservations) -> None:
        for number, size in enumerate(sizes):
            await reservations.ask(str(number), size)
        assert len(reservations.granted) == len(sizes)
        await reservations.release(sum(sizes))

    scenario(steps)


@pytest.mark.parametrize(("held", "large", "small"), [(5, 6, 1), (1, 10, 9), (10, 10, 10), (9, 2, 1)])
def test_small_reservations_do_not_overtake_a_large_one(held, large, small):
    async def steps(reservations: Reservations) -> None:
        await reservations.ask("held", held)
        await reservations.ask("large", large)
        await reservations.ask("small", small)
        assert reservations.granted == ["held"]
        await reservations.release(held)
        assert reservations.granted[:2] == ["held", "large"]
        await reservations.release(large)
        assert reservations.granted == ["held", "large", "small"]
        await reservations.release(small)

    scenario(steps)


@pytest.mark.parametrize(("held", "large", "small"), [(5, 6, 1), (1, 10, 9), (10, 10, 10), (9, 2, 1)])
def test_a_cancelled_reservation_leaves_and_takes_no_bytes(held, large, small):
    async def steps(reservations: Reservations) -> None:
        await reservations.ask("held", held)
        await reservations.ask("large", large)
        await reservations.ask("small", small)
        await reservations.cancel("large")
        assert ("small" in reservations.granted) == (held + small <= TOTAL)
        await reservations.release(held)
        assert reservations.granted == ["held", "small"]
        await reservations.release(small)

    scenario(steps)


@pytest.mark.parametrize("is_granted_first", [True, False])
@pytest.mark.parametrize("size", [1, 5, TOTAL])
def test_a_reservation_that_is_granted_and_cancelled_at_once_returns_its_bytes(size, is_granted_first):
    async def steps(reservations: Reservations) -> None:
        await reservations.ask("held", TOTAL)
        await reservations.ask("next", size)
        for step in ("grant", "cancel") if is_granted_first else ("cancel", "grant"):
            if step == "grant":
                reservations.budget.release(TOTAL)
            else:
                reservations.tasks["next"].cancel()
        await settled()
        assert reservations.tasks["next"].cancelled()

    scenario(steps)


def test_bytes_may_be_released_by_other_threads_and_event_loops():
    budget, rounds = MemoryBudget(TOTAL), 300

    async def use(size: int) -> None:
        for number in range(rounds):
            waits = asyncio.create_task(budget.reserve(size))
            if number % 3 == 0:
                await asyncio.sleep(0)
                waits.cancel()
            try:
                await waits
            except asyncio.CancelledError:
                continue
            await asyncio.to_thread(budget.release, size)

    async def use_all() -> None:
        await asyncio.gather(*map(use, (1, 4, 7, TOTAL)))

    threads = [threading.Thread(target=lambda: asyncio.run(use_all())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    asyncio.run(asyncio.wait_for(budget.reserve(TOTAL), 20))
