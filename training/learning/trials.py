"""The outcome of a search: configurations that were tried, and the best of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.config import TaskConfig
from training.learning.evaluation import Scores

Values = dict[str, float]  # of the searched fields


@dataclass(frozen=True)
class Trial:
    """A configuration that was tried.

    `scores` are those of the validation split, and `selection` is the one that is compared; None if training diverged.
    """

    values: Values
    scores: Scores | None
    selection: float | None
    seconds: float


@dataclass(frozen=True)
class Found:
    """The trials of a search in their order, and the configuration with the values of the best one.

    `metric` selected it. `is_complete` is False if the time was up before every neighbour of the best was tried.
    """

    trials: Sequence[Trial]
    config: TaskConfig
    metric: str
    is_complete: bool

    @property
    def best(self) -> Trial:
        """The best trial."""
        return best_trial(self.trials)


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest score; the first of equal ones."""
    return max(trials, key=lambda trial: -math.inf if trial.selection is None else trial.selection)
