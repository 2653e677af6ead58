"""Intervals contain the truth as often as they say, and resampled scores are those of the scorer.

Covers training.learning.score_statistics.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from model_store import Problem
from training.learning.evaluation import score
from training.learning.intervals import OfSums, RocArea, binomial_tail, bootstrap, wilson
from training.learning.score_statistics import score_intervals

PROBLEMS = [(Problem.SINGLE_LABEL, 2), (Problem.SINGLE_LABEL, 4), (Problem.MULTI_LABEL, 3)]


@pytest.mark.parametrize(
    ("share", "items", "interval"),
    [(0.5, 16, (0.280, 0.720)), (1.0, 16, (0.806, 1.0)), (0.0, 10, (0.0, 0.278)), (0.9, 1000, (0.880, 0.917))],
)
def test_wilsons_interval_has_the_published_values(share: float, items: int, interval: tuple[float, float]) -> None:
    assert wilson(share, items) == pytest.approx(interval, abs=1e-3)


@pytest.mark.parametrize("items", [1, 12, 40, 3000])
def test_the_bootstrap_of_a_mean_is_near_the_normal_interval(items: int) -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, items)
    statistic = OfSums(np.stack([values, np.ones(items)], axis=1), lambda sums: sums[:, 0] / sums[:, 1])

    (low, high) = bootstrap({"mean": values.mean()}, {"mean": statistic}, items)["mean"]

    half = 1.96 * values.std() / math.sqrt(items)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.25 * half + 1e-5)
    assert low <= values.mean() + 1e-6
    assert high >= values.mean() - 1e-6


def test_equal_inputs_have_equal_intervals() -> None:
    statistic = {"mean": OfSums(np.stack([np.arange(9.0), np.ones(9)], axis=1), lambda sums: sums[:, 0] / sums[:, 1])}

    assert bootstrap({"mean": 4.0}, statistic, 9) == bootstrap({"mean": 4.0}, statistic, 9)


@pytest.mark.parametrize("ties", [False, True])
def test_a_resampled_roc_area_is_that_of_the_repeated_items(ties: bool) -> None:
    rng = np.random.default_rng(2)
    scores = rng.integers(4, size=30).astype(float) if ties else rng.normal(size=30)
    positive, weights = rng.random(30) < 0.4, rng.integers(3, size=(5, 30)).astype(float)

    areas = RocArea(scores, positive).of_resamples(weights)

    for area, weight in zip(areas, weights.astype(int), strict=True):
        repeated, truth = (torch.tensor(np.repeat(each, weight)) for each in (scores, positive))
        expected = binary_auroc(repeated.sigmoid(), truth.int())
        assert area == pytest.approx(float(expected), abs=1e-5)
    assert np.isnan(RocArea(scores, positive).of_resamples(positive[None].astype(float)))


def answers(problem: Problem, classes: int, items: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    logits = 2 * torch.randn(items, classes)
    if problem is Problem.MULTI_LABEL:
        return logits, (torch.rand(items, classes) < logits.sigmoid()).float()
    return logits, torch.distributions.Categorical(logits=logits).sample()


@pytest.mark.parametrize(("problem", "classes"), PROBLEMS)
@pytest.mark.parametrize("items", [1, 7, 60])
def test_every_defined_score_is_in_its_interval(problem: Problem, classes: int, items: int) -> None:
    logits, targets = answers(problem, classes, items)
    scores = score(logits, targets, problem)
    selected = logits > 0 if problem is Problem.MULTI_LABEL else None

    intervals = score_intervals(scores, logits, logits / 2, selected, targets, problem)

    assert set(intervals) == {name for name, value in scores.items() if value is not None} - {"items"}
    for name, (low, high) in intervals.items():
        assert low <= (scores[name] or 0.0) <= high, name


@pytest.mark.parametrize(("problem", "classes"), PROBLEMS)
def test_intervals_are_narrower_with_more_items_and_centred_on_the_score(problem: Problem, classes: int) -> None:
    widths = []
    for items in (50, 800):
        logits, targets = answers(problem, classes, items)
        scores = score(logits, targets, problem)
        intervals = score_intervals(scores, logits, logits, None, targets, problem)
        widths.append({name: high - low for name, (low, high) in intervals.items()})
        for name in ("macro_f1", "log_loss"):
            low, high = intervals[name]
            assert abs((low + high) / 2 - (scores[name] or 0.0)) < 0.35 * (high - low), name

    assert all(widths[1][name] < 0.5 * widths[0][name] for name in ("macro_f1", "log_loss"))


@pytest.mark.parametrize(
    ("hits", "items", "share"), [(3, 5, 0.9), (28, 40, 0.9), (0, 1, 0.5), (7, 7, 0.2), (50, 90, 0.6)]
)
def test_the_tail_of_the_binomial_distribution_is_summed(hits: int, items: int, share: float) -> None:
    exact = sum(math.comb(items, k) * share**k * (1 - share) ** (items - k) for k in range(hits + 1))

    assert binomial_tail(hits, items, share) == pytest.approx(exact)


@pytest.mark.parametrize(("hits", "items"), [(90_000, 100_000), (0, 10_000), (10_000, 10_000)])
def test_the_tail_of_many_items_is_a_probability(hits: int, items: int) -> None:
    assert 0 <= binomial_tail(hits, items, 0.9) <= 1 + 1e-6
