"""The coverage to ask for if errors and reviews have a price: a person reviews every set without exactly one label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from model_store import Pattern
from training.data.missing import PATTERN_OF, Table
from training.learning.conformal import formed_sets
from training.learning.encoded_split import EncodedSplit
from training.learning.formed_sets import FormedSets
from training.learning.runs import TrainedTask

NEVER, ALWAYS = 0.0, 1.0  # in place of a coverage: no item is reviewed, every item is
_STEP = 0.005  # between the coverages that are compared


@dataclass(frozen=True)
class Costs:
    """The cost of a wrong answer that nobody reviewed, and of a review, in the same unit."""

    error: float
    review: float


class Outcome(NamedTuple):
    """The shares of items that are reviewed, and that are answered wrongly without a review; the cost of an item."""

    items: int
    reviewed: float
    wrong: float
    cost: float


@dataclass(frozen=True)
class ReviewPlan:
    """The coverage that costs least on the validation items that chose the model, beside no review and review of all.

    `coverage` is None if the label sets support none. `expected` has the outcomes on these validation items, and `test`
    those on the test items by view, which is `overall` or a pattern. `unsupported` counts the test items of patterns
    without label sets, which are reviewed at every coverage.
    """

    coverage: float | None
    expected: dict[str, Outcome]
    test: dict[str, dict[str, Outcome]]
    unsupported: dict[str, int]

    @property
    def cheapest(self) -> str:
        """The name of the expected outcome with the lowest cost; of equal ones, not that of the coverage."""
        return min(self.expected, key=lambda name: self.expected[name].cost)

    @property
    def pays(self) -> bool:
        """Whether the coverage is expected to cost less than no review and than review of all."""
        return self.coverage is not None and self.cheapest == _name(self.coverage)


def review_plan(
    trained: TrainedTask, encoded: Mapping[str, EncodedSplit], tables: Mapping[str, Table], costs: Costs
) -> ReviewPlan:
    """Choose the coverage on the validation split and apply it to the test split, both under their missing tables.

    An answer is wrong if its label, the one with the highest score, is not a true one.

    Args:
        trained: a task with label sets.
        encoded, tables: of `validation`, without the calibration items, and `test`.
    """
    learning, test = (_under(trained, encoded[name], tables[name]) for name in ("validation", "test"))
    coverage = min(_coverages(learning), key=lambda each: _expected(learning, each, costs).cost, default=None)
    policies = {"no review": NEVER, "review of all": ALWAYS}
    if coverage is not None:
        policies[_name(coverage)] = coverage
    views = {"overall": test, **{pattern.value: {pattern: test[pattern]} for pattern in Pattern}}
    return ReviewPlan(
        coverage,
        {name: _expected(learning, each, costs) for name, each in policies.items()},
        {name: {view: outcome(items, each, costs) for view, items in views.items()} for name, each in policies.items()},
        {pattern.value: len(sets.truth) for pattern, sets in test.items() if sets.highest is None and len(sets.truth)},
    )


def outcome(items: Mapping[Pattern, FormedSets], coverage: float, costs: Costs) -> Outcome:
    """The outcome if this coverage, NEVER or ALWAYS is asked for of items of each pattern."""
    reviewed = np.concatenate([_reviewed(sets, coverage) for sets in items.values()])
    wrong = np.concatenate([~sets.best_is_true for sets in items.values()]) & ~reviewed
    if len(reviewed) == 0:
        return Outcome(0, math.nan, math.nan, math.nan)
    shares = float(reviewed.mean()), float(wrong.mean())
    return Outcome(len(reviewed), *shares, costs.review * shares[0] + costs.error * shares[1])


def _expected(items: Mapping[Pattern, FormedSets], coverage: float, costs: Costs) -> Outcome:
    """The outcome with one more item that is answered wrongly: few items without an error do not promise none."""
    seen = outcome(items, coverage, costs)
    if coverage == ALWAYS:
        return seen
    return seen._replace(cost=(seen.items * seen.cost + costs.error) / (seen.items + 1))


def _name(coverage: float) -> str:
    return f"coverage {coverage:g}"


def _reviewed(sets: FormedSets, coverage: float) -> NDArray[np.bool_]:
    if coverage == NEVER:
        return np.zeros(len(sets.truth), dtype=bool)
    if coverage == ALWAYS or not sets.supports(coverage):
        return np.ones(len(sets.truth), dtype=bool)
    return ~sets.sure(coverage)


def _coverages(items: Mapping[Pattern, FormedSets]) -> list[float]:
    """Those that every pattern of the items supports."""
    highest = min((sets.highest for sets in items.values() if sets.highest and len(sets.truth)), default=0.0)
    steps = range(round(0.5 / _STEP), round(1 / _STEP))
    return [coverage for step in steps if (coverage := round(step * _STEP, 3)) <= highest]


def _under(trained: TrainedTask, encoded: EncodedSplit, table: Table) -> dict[Pattern, FormedSets]:
    """The label sets of the items of a split, each with the pattern that the missing table gives it."""
    head, answers = trained.model.cpu().head, {}
    for lacks, pattern in PATTERN_OF.items():
        allowed = encoded.of_pattern(head, pattern)
        answers[pattern] = allowed.where(torch.from_numpy(table == lacks)[allowed.item])
    return formed_sets(trained, answers)
