"""The label sets of items whose true labels are known, at any coverage, and how they do."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_store import Calibration, Pattern, Problem
from model_store.label_sets import LabelSets, Numbers
from training.learning.calibration import Answers


class SetScores(NamedTuple):
    """The label sets of items at one coverage.

    `covered` is the share of items whose true label is in their set; of a multi-label task, the mean share of an item's
    true labels. `size` is the mean number of labels. `review` is the share of items whose set has not exactly one
    label, and `accuracy` that of the other items (multi-label: of those whose one label is true).
    """

    items: int
    covered: float
    size: float
    review: float
    accuracy: float | None


class FormedSets:
    """The label sets of the items that allow a presence pattern.

    `highest` is the highest coverage that the calibration items support; None if they support none.

    Shapes:
        truth: (n, C), the true labels. best_is_true: (n,), whether the label with the highest score is a true one.
    """

    def __init__(
        self, sets: LabelSets, answers: Answers, pattern: Pattern, calibration: Calibration, problem: Problem
    ) -> None:
        self._sets, self._pattern, self._is_single = sets, pattern.value, problem is Problem.SINGLE_LABEL
        self.highest = sets.highest_coverage(pattern)
        self._scores = served_scores(answers, calibration, problem)
        self._nonconformity = sets.nonconformity(self._scores)
        targets = answers.targets.numpy()
        is_true = np.arange(self._scores.shape[1]) == targets[:, np.newaxis] if self._is_single else targets
        self.truth: NDArray[np.bool_] = is_true.astype(bool)
        self.best_is_true = self.truth[np.arange(len(self.truth)), self._scores.argmax(axis=1)]

    def supports(self, coverage: float) -> bool:
        """Whether the calibration items support a coverage."""
        return self._sets.supports(self._pattern, coverage)

    def members(self, coverage: float) -> NDArray[np.bool_]:
        """The labels in each set, (n, C), at a coverage that is supported."""
        return self._sets.members(
            self._scores, self._pattern, coverage, single=self._is_single, nonconformity=self._nonconformity
        )

    def sure(self, coverage: float) -> NDArray[np.bool_]:
        """Whether each set has exactly one label, (n,): the best one, which needs no review."""
        return np.asarray(self.members(coverage).sum(axis=1) == 1)

    def covered(self, coverage: float) -> Numbers:
        """The share of its true labels that each set has, (n,); 1 if there are none to miss."""
        return self._covered(self.members(coverage))

    def _covered(self, members: NDArray[np.bool_]) -> Numbers:
        hits, labels = (self.truth & members).sum(axis=1), self.truth.sum(axis=1)
        return np.where(labels == 0, 1.0, hits / np.maximum(labels, 1))

    def scores(self, coverage: float) -> SetScores | None:
        """None without items, or if the coverage is not supported."""
        if len(self.truth) == 0 or not self.supports(coverage):
            return None
        members = self.members(coverage)
        sizes = members.sum(axis=1)
        sure = sizes == 1
        return SetScores(
            items=len(self.truth),
            covered=float(self._covered(members).mean()),
            size=float(sizes.mean()),
            review=float(1 - sure.mean()),
            accuracy=float(self.best_is_true[sure].mean()) if sure.any() else None,
        )


def served_scores(answers: Answers, calibration: Calibration, problem: Problem) -> Numbers:
    """(n, C), the scores as they are served."""
    logits = answers.logits.double() / calibration.temperature
    scores = logits.sigmoid() if problem is Problem.MULTI_LABEL else logits.softmax(dim=-1)
    return np.asarray(scores.numpy(), np.float64)
