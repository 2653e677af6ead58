"""95 % intervals of scores: Wilson's for shares of items, and the bootstrap over items for all others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Floats = NDArray[np.float64]
_Z = 1.959964
_RESAMPLES = (200, 1000)  # the least, of many items, and the most
_DRAWS = 2_000_000  # items in all resamples, above which there are fewer resamples
_AT_ONCE = 5_000_000  # items of the resamples in memory
_DIGITS = 6


class Statistic(Protocol):
    """A score of resamples of the items."""

    def of_resamples(self, weights: Floats) -> Floats:
        """(resamples,) for how often each resample draws each item (resamples, n); NaN where undefined."""


@dataclass(frozen=True)
class OfSums:
    """A score that is a function of sums over items: `value` of the sums (resamples, k) of `columns` (n, k)."""

    columns: Floats
    value: Callable[[Floats], Floats]

    def of_resamples(self, weights: Floats) -> Floats:
        return self.value(weights @ self.columns)


@dataclass(frozen=True)
class RocArea:
    """The area under the ROC curve of `scores` (n,) for `positive` (n,)."""

    scores: Floats
    positive: NDArray[np.bool_]

    def of_resamples(self, weights: Floats) -> Floats:
        order = np.argsort(self.scores, kind="stable")
        starts = np.flatnonzero(np.diff(self.scores[order], prepend=-np.inf))  # of equal scores
        weights, positive = weights[:, order], self.positive[order]
        positives, negatives = (np.add.reduceat(weights * chosen, starts, axis=1) for chosen in (positive, ~positive))
        below = np.cumsum(negatives, axis=1) - negatives / 2
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        areas: Floats = np.full(len(pairs), np.nan)
        np.divide((positives * below).sum(axis=1), pairs, out=areas, where=pairs > 0)
        return areas


def value_of(statistic: Statistic, items: int) -> float:
    """The score of the items themselves; NaN where undefined."""
    return float(statistic.of_resamples(np.ones((1, items)))[0])


def wilson(share: float, items: int) -> Interval:
    """Wilson's interval of a share of items."""
    centre = share + _Z**2 / (2 * items)
    half = _Z * math.sqrt(share * (1 - share) / items + _Z**2 / (4 * items**2))
    return _around(share, (centre - half) / (1 + _Z**2 / items), (centre + half) / (1 + _Z**2 / items))


def binomial_tail(hits: int, items: int, share: float) -> float:
    """The probability of at most so many hits among items, each of which is a hit with probability 0 < share < 1."""
    ways = (math.lgamma(items + 1) - math.lgamma(k + 1) - math.lgamma(items - k + 1) for k in range(hits + 1))
    terms = (way + k * math.log(share) + (items - k) * math.log1p(-share) for k, way in enumerate(ways))
    return math.fsum(map(math.exp, terms))


def bootstrap(scores: Mapping[str, float], statistics: Mapping[str, Statistic], items: int) -> dict[str, Interval]:
    """The percentile interval of each score, from the same resamples of the items for all, drawn with a fixed seed."""
    values: dict[str, list[Floats]] = {name: [] for name in statistics}
    for weights in _resamples(items):
        for name, statistic in statistics.items():
            values[name].append(statistic.of_resamples(weights))
    intervals = {}
    for name, parts in values.items():
        low, high = np.nanpercentile(np.concatenate(parts), (2.5, 97.5))
        intervals[name] = _around(scores[name], float(low), float(high))
    return intervals


def _resamples(items: int) -> Iterator[Floats]:
    """How often each resample draws each item: (resamples, items)."""
    rng = np.random.default_rng(0)
    left = int(np.clip(_DRAWS // items, *_RESAMPLES))
    while left > 0:
        count = min(left, max(_AT_ONCE // items, 1))
        drawn = rng.integers(items, size=(count, items)) + items * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * items).reshape(count, items).astype(np.float64)
        left -= count


def _around(score: float, low: float, high: float) -> Interval:
    """The interval, widened to the score: resampling raises calibration errors, which are never negative."""
    return round(min(low, score), _DIGITS), round(max(high, score), _DIGITS)
