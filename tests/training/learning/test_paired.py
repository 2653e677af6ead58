"""The interval of a paired difference: it proves little on few items, and covers the true difference on many."""

from __future__ import annotations

import numpy as np
import pytest

from training.learning.paired import paired_difference


@pytest.mark.parametrize("items", [1, 2, 3])
def test_a_few_items_prove_nothing_even_if_all_of_them_are_lost(items: int) -> None:
    difference = paired_difference(np.ones(items), np.zeros(items))

    assert difference.mean == -1
    assert difference.low == -1
    assert difference.high > 0


@pytest.mark.parametrize("items", [10, 60, 5000])
def test_many_lost_items_exclude_zero(items: int) -> None:
    assert paired_difference(np.ones(items), np.zeros(items)).high < 0


@pytest.mark.parametrize(
    ("lost", "gained", "items", "is_clear"),
    [(3, 0, 60, False), (6, 0, 60, True), (12, 6, 60, False), (40, 10, 400, True), (1, 0, 100_000, False)],
)
def test_the_items_that_differ_decide(lost: int, gained: int, items: int, is_clear: bool) -> None:
    before, after = np.full(items, 0.5), np.full(items, 0.5)
    before[:lost], after[:lost] = 1, 0
    before[lost : lost + gained], after[lost : lost + gained] = 0, 1

    assert (paired_difference(before, after).high < 0) is is_clear


def test_equal_scores_have_a_difference_of_zero_and_an_interval_around_it() -> None:
    scores = np.array([0.0, 1.0, 0.5, 0.25])

    mean, low, high = paired_difference(scores, scores)

    assert mean == 0
    assert low == -high < 0


@pytest.mark.parametrize(("share", "gain", "loss"), [(0.7, 0.1, 0.1), (0.9, 0.02, 0.05), (0.5, 0.3, 0.05)])
def test_the_interval_covers_the_true_difference(share: float, gain: float, loss: float) -> None:
    """In about 95 % of the samples; each wrong item is gained and each right one lost with these probabilities."""
    random, covered = np.random.default_rng(0), 0
    truth = (1 - share) * gain - share * loss
    for _ in range(500):
        before = random.random(80) < share
        after = np.where(before, random.random(80) >= loss, random.random(80) < gain)
        _, low, high = paired_difference(before.astype(float), after.astype(float))
        covered += low <= truth <= high

    assert covered > 460
