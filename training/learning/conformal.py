"""Calibration of label sets, and how they do on other items."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_store import Calibration, Pattern, Problem
from model_store.label_sets import WATCHED_COVERAGE, ExpectedSets, LabelSets, class_quantiles, quantiles, risk_quantiles
from training.data.calibration_split import Divided
from training.learning.batches import Collator
from training.learning.calibration import Answers
from training.learning.candidate import Candidate
from training.learning.encoded_split import EncodedSplit, encode
from training.learning.runs import TrainedTask

COVERAGES = (0.8, 0.9, 0.95)  # that reports show
_LEAST_ITEMS = 20  # of a pattern; with fewer, no rule is clearly better
_PENALTIES, _FREE_RANKS = (0.01, 0.1), (1, 3)
_RULES = [
    LabelSets(rule="threshold", by_pattern={}),
    LabelSets(rule="adaptive", by_pattern={}),
    *(
        LabelSets(rule="regularised", penalty=penalty, free_ranks=ranks, by_pattern={})
        for penalty, ranks in product(_PENALTIES, _FREE_RANKS)
    ),
]


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


def label_sets_of(candidate: Candidate, divided: Divided, collator: Collator) -> LabelSets | None:
    """The label sets of a candidate, calibrated on the items that were set apart; None if there are none."""
    if divided.calibration is None or divided.calibration_table is None:
        return None
    head, config = candidate.model.cpu().head, candidate.config
    learning = candidate.encoded["validation"].by_pattern(head, divided.tables["validation"])
    encoded = encode(candidate.model, divided.calibration, collator)
    calibration = encoded.by_pattern(head, divided.calibration_table)
    by_class = config.coverage.by == "class" and config.problem is Problem.SINGLE_LABEL
    return calibrated_sets(learning, calibration, candidate.calibration, config.problem, by_class)


def coverage_scores(trained: TrainedTask, test: EncodedSplit) -> dict[str, dict[str, dict[str, float | None]]]:
    """How the label sets do on the items of the test split that allow a pattern, by pattern and coverage."""
    sets, head, problem = trained.label_sets, trained.model.cpu().head, trained.config.problem
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    if sets is None:
        return found
    for pattern, answers in test.by_pattern(head, test.natural).items():
        for coverage in COVERAGES:
            scores = set_scores(sets, answers, pattern, trained.calibration[pattern], problem, coverage)
            if scores is not None:
                rounded = {
                    name: value if value is None else round(value, 6) for name, value in scores._asdict().items()
                }
                found.setdefault(pattern.value, {})[f"{coverage:g}"] = rounded
    return found


def calibrated_sets(
    learning: Mapping[Pattern, Answers],
    calibration: Mapping[Pattern, Answers],
    calibrations: Mapping[Pattern, Calibration],
    problem: Problem,
    by_class: bool = False,
) -> LabelSets | None:
    """Label sets whose quantiles are those of items that neither trained nor chose anything. None without such items.

    Args:
        learning: answers to validation items that chose the model. They choose the rule with the smallest sets.
        calibration: answers to the other validation items. They fix the quantiles.
        calibrations: temperatures.
        by_class: keep the promise for the items of each label, in place of all items.
    """
    served = {pattern: _served(answers, calibrations[pattern], problem) for pattern, answers in calibration.items()}
    if not any(map(len, served.values())):
        return None
    rule = LabelSets(by_pattern={})
    if problem is Problem.SINGLE_LABEL:
        rule = smallest_rule(
            {pattern: _served(each, calibrations[pattern], problem) for pattern, each in learning.items()}, learning
        )
    found, own = {}, {}
    for pattern, scores in served.items():
        targets = calibration[pattern].targets.numpy()
        if len(scores) == 0:
            continue
        distances = rule.nonconformity(scores)
        if problem is Problem.MULTI_LABEL:
            found[pattern] = risk_quantiles(distances, targets.astype(bool))
            continue
        of_truth = distances[np.arange(len(targets)), targets]
        found[pattern] = quantiles(of_truth)
        if by_class:
            own[pattern] = tuple(class_quantiles(of_truth[targets == label]) for label in range(scores.shape[1]))
    sets = rule.model_copy(update={"by_pattern": found, "by_class": own})
    expected = {}
    for pattern, answers in learning.items():
        found_sets = set_scores(sets, answers, pattern, calibrations[pattern], problem, WATCHED_COVERAGE)
        if found_sets is not None:
            expected[pattern.value] = ExpectedSets(size=found_sets.size, review=found_sets.review)
    return sets.model_copy(update={"expected": expected})


def smallest_rule(scores: Mapping[Pattern, NDArray[np.float64]], answers: Mapping[Pattern, Answers]) -> LabelSets:
    """The rule of a single-label task with the smallest sets at a coverage of 0.9, on average over the patterns.

    Each half of the items is given the quantile of the other half.
    """
    sizes = []
    for rule in _RULES:
        of_rule = []
        for pattern, rows in scores.items():
            if len(rows) >= _LEAST_ITEMS:
                targets, odd = answers[pattern].targets.numpy(), answers[pattern].item.numpy() % 2 == 1
                distances = rule.nonconformity(rows)
                of_truth = distances[np.arange(len(rows)), targets]
                for half in (odd, ~odd):
                    quantile = quantiles(of_truth[half]).at(WATCHED_COVERAGE, 1000) if half.any() else None
                    if quantile is not None and not half.all():
                        of_rule.append(np.maximum((distances[~half] <= quantile).sum(axis=1), 1).mean())
        sizes.append(np.mean(of_rule) if of_rule else np.inf)
    return _RULES[int(np.argmin(sizes))]


def set_scores(
    sets: LabelSets, answers: Answers, pattern: Pattern, calibration: Calibration, problem: Problem, coverage: float
) -> SetScores | None:
    """How the sets of a presence pattern do on items; None without items, or if the coverage is not supported."""
    highest = sets.highest_coverage(pattern)
    if len(answers.item) == 0 or highest is None or coverage > highest + 1e-9:
        return None
    single, scores = problem is Problem.SINGLE_LABEL, _served(answers, calibration, problem)
    members = np.stack([sets.members(row, pattern, coverage, single=single) for row in scores])
    truth = answers.targets.numpy()
    if single:
        truth = np.arange(scores.shape[1]) == truth[:, np.newaxis]
    truth = truth.astype(bool)
    hits, sizes = (truth & members).sum(axis=1), members.sum(axis=1)
    labels = truth.sum(axis=1)
    covered = np.where(labels == 0, 1.0, hits / np.maximum(labels, 1))
    sure = sizes == 1
    return SetScores(
        items=len(scores),
        covered=float(covered.mean()),
        size=float(sizes.mean()),
        review=float(1 - sure.mean()),
        accuracy=float((hits[sure] == 1).mean()) if sure.any() else None,
    )


def _served(answers: Answers, calibration: Calibration, problem: Problem) -> NDArray[np.float64]:
    """(n, C), the scores as they are served."""
    logits = answers.logits.double() / calibration.temperature
    scores = logits.sigmoid() if problem is Problem.MULTI_LABEL else logits.softmax(dim=-1)
    return np.asarray(scores.numpy(), np.float64)
