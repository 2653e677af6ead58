from __future__ import annotations

import threading
import time

import pytest

from model_store.items.pictures import PictureError, PictureProblem
from service.models.memory_budget import MemoryBudget


def waits(thread: threading.Thread) -> bool:
    thread.join(0.1)
    return thread.is_alive()


def entering(budget: MemoryBudget, wanted: int, entered: list[int]) -> threading.Thread:
    def enter() -> None:
        with budget.reserve(wanted):
            entered.append(wanted)

    thread = threading.Thread(target=enter)
    thread.start()
    return thread


def test_a_reservation_waits_for_free_bytes():
    budget, entered = MemoryBudget(10), []
    with budget.reserve(4), budget.reserve(5):
        small = entering(budget, 1, entered)
        small.join(20)
        assert entered == [1]
        large = entering(budget, 2, entered)
        assert waits(large)
    large.join(20)
    assert entered == [1, 2]


def test_a_reservation_larger_than_the_budget_is_refused():
    budget = MemoryBudget(10)
    with pytest.raises(PictureError) as refusal, budget.reserve(11):
        pass
    assert refusal.value.problem is PictureProblem.MEMORY
    with budget.reserve(10):
        pass


def test_small_reservations_do_not_overtake_a_large_one():
    budget, entered = MemoryBudget(10), []
    with budget.reserve(5):
        large = entering(budget, 10, entered)
        assert waits(large)
        small = entering(budget, 1, entered)
        assert waits(small)  # there is room, but the large one was first
    large.join(20)
    small.join(20)
    assert entered == [10, 1]


def test_a_failed_block_frees_its_bytes():
    budget = MemoryBudget(10)
    for _ in range(3):
        try:
            with budget.reserve(10):
                raise ValueError
        except ValueError:
            pass
    started = time.monotonic()
    with budget.reserve(10):
        assert time.monotonic() - started < 20
