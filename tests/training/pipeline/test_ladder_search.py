"""The search on ladders of values: neighbours first, then beyond an edge while it is best."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from training.pipeline.ladder_search import best, rates_around, search_ladder

LADDER = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]


@pytest.mark.parametrize(
    ("start", "peak", "tried"),
    [
        (3, 8, [4, 8, 16]),
        (3, 16, [4, 8, 16, 32]),
        (3, 2, [4, 8, 16, 2, 1]),
        (3, 128, [4, 8, 16, 32, 64, 128]),
        (0, 1, [1, 2]),
        (0, 128, [1, 2, 4, 8, 16]),
        (7, 128, [64, 128]),
    ],
)
def test_the_search_continues_while_the_best_is_at_an_edge(start: int, peak: float, tried: list[float]) -> None:
    scores = search_ladder(LADDER, start, lambda value: -abs(math.log2(value / peak)))

    assert [*scores] == tried


@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_ladder_of_few_values_has_an_end(start: int) -> None:
    assert {*search_ladder([1, 2, 3][: start + 1], start, float)} <= {1, 2, 3}
    assert search_ladder([5], 0, float) == {5: 5.0}


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ({1.0: 0.5, 2.0: 0.5, 4.0: 0.5}, 2.0),
        ({1.0: 0.5, 2.0: 0.4, 4.0: 0.5}, 1.0),
        ({1.0: 0.5, 2.0: 0.4, 4.0: 0.6}, 4.0),
        ({1.0: None, 2.0: None, 4.0: -9.0}, 4.0),
        ({1.0: None, 2.0: None, 4.0: None}, 1.0),
    ],
)
def test_of_equal_values_the_nearest_to_the_start_is_best_and_divergence_is_worst(
    scores: dict[float, float | None], chosen: float
) -> None:
    assert best(scores, start=2.0) == chosen


def test_where_every_value_scores_alike_the_search_stays_at_the_start() -> None:
    scores = search_ladder(LADDER, 3, lambda value: 0.5)

    assert [*scores] == [4, 8, 16]
    assert best(scores, 8.0) == 8


def test_the_search_goes_down_while_every_value_diverges() -> None:
    assert [*search_ladder(LADDER, 3, lambda value: None)] == [4, 8, 16, 2, 1]


@pytest.mark.parametrize("rate", [0.01, 3e-4, 0.0123456, 1e-6])
def test_rates_are_half_a_power_of_ten_apart(rate: float) -> None:
    rates, place = rates_around(rate)

    assert rates[place] == rate
    assert len(rates) == 9
    assert all(after / before == pytest.approx(10**0.5, rel=0.01) for before, after in pairwise(rates))
