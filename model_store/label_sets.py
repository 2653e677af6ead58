"""Label sets that contain the true label with a promised probability: calibrated in training, formed in the service.

Split conformal prediction for single-label tasks and conformal risk control for multi-label ones (arXiv 2208.02814),
for each presence pattern. The nonconformity of a label is a number from the scores of all labels: the higher, the less
likely the label. A set has the labels whose nonconformity is at most a quantile of the calibration items' own.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, model_validator

Rule: TypeAlias = Literal["threshold", "adaptive", "regularised"]
Numbers: TypeAlias = NDArray[np.float64]
WATCHED_COVERAGE = 0.9  # at which the service counts the sizes of all sets
_ROUNDING = 1e-9
_LEAST, _PATTERN_STEPS, _CLASS_STEPS = 0.5, 1000, 100  # coverages from 0.5, in steps of 1/1000, of a class 1/100


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantiles(_Frozen):
    """Quantiles of the nonconformity of `items` calibration items, for coverages from 0.5 in equal steps.

    The last is for the highest coverage that so many items support, which is at most n / (n + 1).
    """

    items: PositiveInt
    values: tuple[FiniteFloat, ...]

    def at(self, coverage: float, steps: int) -> float | None:
        """The quantile for a coverage, or for the next higher one that is kept; None if the items do not support it."""
        place = _place(coverage, steps)
        return self.values[place] if place < len(self.values) else None


class ExpectedSets(_Frozen):
    """The sets of the validation items that did not calibrate them, at WATCHED_COVERAGE; live traffic is compared."""

    size: Annotated[float, Field(ge=0)]  # mean number of labels
    review: Annotated[float, Field(ge=0, le=1)]  # share of the sets that have not exactly one label


class LabelSets(_Frozen):
    """The rule that forms label sets, and its calibration.

    `threshold` has the labels with the highest scores (Sadinle et al. 2019). `adaptive` adds labels until their scores
    sum up to the quantile (APS, Romano et al. 2020), and `regularised` adds `penalty` for each label after the first
    `free_ranks` (RAPS, Angelopoulos et al. 2021). The best label is always in the set of a single-label task.

    `by_class` has the quantiles of each label in the manifest's order, if sets keep their promise for each label. A
    label without quantiles, or with too few items for a coverage, is in every set.
    """

    rule: Rule = "threshold"
    penalty: Annotated[float, Field(ge=0, le=1)] = 0.0
    free_ranks: Annotated[int, Field(ge=0, le=1000)] = 0
    by_pattern: dict[str, Quantiles]
    by_class: dict[str, tuple[Quantiles | None, ...]] = {}
    expected: dict[str, ExpectedSets] = {}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        of_classes = [each for own in self.by_class.values() for each in own if each is not None]
        for found, steps in ((self.by_pattern.values(), _PATTERN_STEPS), (of_classes, _CLASS_STEPS)):
            if any(len(each.values) > _place(1.0, steps) for each in found):
                raise ValueError(f"quantiles are for coverages below 1, in steps of {1 / steps:g}")
        if not self.by_class.keys() <= self.by_pattern.keys():
            raise ValueError("by_class has a presence pattern that by_pattern lacks")
        if not all(self.supports(pattern, WATCHED_COVERAGE) for pattern in self.expected):
            raise ValueError(f"expected sets need quantiles for a coverage of {WATCHED_COVERAGE}")
        return self

    def highest_coverage(self, pattern: str) -> float | None:
        """The highest coverage that the calibration items of a presence pattern support; None if they support none."""
        found = self.by_pattern.get(pattern)
        return None if found is None or not found.values else _LEAST + (len(found.values) - 1) / _PATTERN_STEPS

    def supports(self, pattern: str, coverage: float) -> bool:
        """Whether the calibration items of a presence pattern support a coverage."""
        found = self.by_pattern.get(pattern)
        return found is not None and found.at(coverage, _PATTERN_STEPS) is not None

    def members(
        self, scores: Numbers, pattern: str, coverage: float, *, single: bool, nonconformity: Numbers | None = None
    ) -> NDArray[np.bool_]:
        """Which labels are in the set of an item, or of each item. The calibration items have to support the coverage.

        Args:
            scores: (C,) or (n, C), as they are served.
            single: whether an item has exactly one label.
            nonconformity: of these scores, if it is known.
        """
        quantile: float | Numbers | None = self.by_pattern[pattern].at(coverage, _PATTERN_STEPS)
        if quantile is None:
            raise ValueError(f"{self.by_pattern[pattern].items} items do not support a coverage of {coverage}")
        if pattern in self.by_class:
            quantile = self._of_classes[pattern][_place(coverage, _CLASS_STEPS)]
        rows = np.atleast_2d(scores)
        chosen = (self.nonconformity(rows) if nonconformity is None else nonconformity) <= quantile
        if single:
            chosen[np.arange(len(rows)), rows.argmax(axis=1)] = True
        return np.asarray(chosen).reshape(scores.shape)

    @cached_property
    def _of_classes(self) -> dict[str, Numbers]:
        """By pattern, for each coverage the quantile of each label: infinite if its items do not support it."""
        tables = {
            pattern: np.full((_place(1.0, _CLASS_STEPS) + 1, len(own)), np.inf)
            for pattern, own in self.by_class.items()
        }
        for pattern, own in self.by_class.items():
            for label, each in enumerate(own):
                if each is not None:
                    tables[pattern][: len(each.values), label] = each.values
        return tables

    def nonconformity(self, scores: Numbers) -> Numbers:
        """Of each label, from the scores (n, C) of items."""
        if self.rule == "threshold":
            return np.asarray(1 - scores)
        order = np.argsort(-scores, axis=1, kind="stable")
        summed = np.take_along_axis(scores, order, axis=1).cumsum(axis=1)
        summed += self.penalty * np.maximum(np.arange(1, scores.shape[1] + 1) - self.free_ranks, 0)
        result = np.empty_like(summed)
        np.put_along_axis(result, order, summed, axis=1)
        return result


def quantiles(nonconformity: Numbers, steps: int = _PATTERN_STEPS) -> Quantiles:
    """Of items whose true label has this nonconformity (n,): for coverage c, the ceil((n + 1) c)-th smallest."""
    ordered, count = np.sort(nonconformity), len(nonconformity)
    ranks = (-(-(count + 1) * place // steps) for place in range(steps // 2, steps))
    return Quantiles(items=count, values=tuple(float(ordered[rank - 1]) for rank in ranks if rank <= count))


def risk_quantiles(nonconformity: Numbers, targets: NDArray[np.bool_], steps: int = _PATTERN_STEPS) -> Quantiles:
    """Of items with any number of true labels: sets then miss at most 1 - c of an item's true labels in expectation.

    For coverage c, the smallest q for which the missed shares of n items sum up to at most (n + 1) (1 - c) - 1.

    Args:
        nonconformity, targets: (n, C). An item without labels misses none.
    """
    count, labels = len(targets), targets.sum(axis=1)
    shares = np.broadcast_to(1 / np.maximum(labels, 1)[:, np.newaxis], targets.shape)[targets]
    order = np.argsort(-nonconformity[targets], kind="stable")
    falling = nonconformity[targets][order]
    missed = np.concatenate([[0.0], shares[order].cumsum()])  # if the set has none of so many labels
    values = []
    for place in range(steps // 2, steps):
        budget = (count + 1) * (steps - place) / steps - 1
        if budget < 0:
            break
        most = int(np.searchsorted(missed, budget + 1e-9, side="right")) - 1  # so many labels may be missed
        values.append(_smallest(falling, most))
    return Quantiles(items=count, values=tuple(values))


def class_quantiles(nonconformity: Numbers) -> Quantiles | None:
    """Quantiles of one label, from the items (n,) that have it; None without any."""
    return quantiles(nonconformity, _CLASS_STEPS) if len(nonconformity) else None


def _smallest(falling: Numbers, most: int) -> float:
    """The smallest quantile that misses at most so many of these true labels. Equal ones are missed together."""
    if most >= len(falling):
        return 0.0 if len(falling) == 0 else float(np.nextafter(falling[-1], -np.inf))
    return float(falling[most])


def _place(coverage: float, steps: int) -> int:
    """The position of the quantile for a coverage."""
    return max(0, int(np.ceil((coverage - _LEAST) * steps - _ROUNDING)))
