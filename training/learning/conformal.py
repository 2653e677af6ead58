"""Calibration of label sets, and how they do on other items."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store import Calibration, Pattern, Problem
from model_store.label_sets import WATCHED_COVERAGE, ExpectedSets, LabelSets, class_quantiles, quantiles, risk_quantiles
from training.data.calibration_split import Divided
from training.learning.batches import Collator
from training.learning.calibration import Answers
from training.learning.candidate import Candidate
from training.learning.class_coverage import class_scores
from training.learning.encoded_split import EncodedSplit, encode
from training.learning.formed_sets import FormedSets, SetScores, served_scores
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


def label_sets_of(candidate: Candidate, divided: Divided, collator: Collator) -> LabelSets | None:
    """The label sets of a candidate, calibrated on the items that were set apart; None if there are none."""
    if divided.calibration is None or divided.calibration_table is None:
        return None
    head, config = candidate.model.cpu().head, candidate.config
    learning = candidate.encoded["validation"].by_pattern(head, divided.tables["validation"])
    encoded = encode(candidate.model, divided.calibration, collator)
    calibration = encoded.by_pattern(head, divided.calibration_table)
    by_class = config.coverage.by == "class"
    return calibrated_sets(learning, calibration, candidate.calibration, config.problem, by_class)


def formed_sets(trained: TrainedTask, answers: Mapping[Pattern, Answers]) -> dict[Pattern, FormedSets]:
    """The label sets of these items, by pattern; empty for a task that has none."""
    sets, problem = trained.label_sets, trained.config.problem
    if sets is None:
        return {}
    return {
        pattern: FormedSets(sets, each, pattern, trained.calibration[pattern], problem)
        for pattern, each in answers.items()
    }


def coverage_scores(trained: TrainedTask, test: EncodedSplit) -> dict[str, dict[str, dict[str, Any]]]:
    """How the label sets do on the items of the test split that allow a pattern, by pattern and coverage.

    Of a single-label task, the scores at WATCHED_COVERAGE have `by_class`, the coverage of each label's items.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for pattern, formed in formed_sets(trained, test.by_pattern(trained.model.cpu().head, test.natural)).items():
        for coverage in COVERAGES:
            scores = formed.scores(coverage)
            if scores is None:
                continue
            row = {name: value if value is None else round(value, 6) for name, value in scores._asdict().items()}
            if coverage == WATCHED_COVERAGE and trained.config.problem is Problem.SINGLE_LABEL:
                row["by_class"] = class_scores(formed, trained.labels)
            found.setdefault(pattern.value, {})[f"{coverage:g}"] = row
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
    served, learnt = (
        {pattern: served_scores(each, calibrations[pattern], problem) for pattern, each in answers.items()}
        for answers in (calibration, learning)
    )
    if not any(map(len, served.values())):
        return None
    rule = LabelSets(by_pattern={})
    if problem is Problem.SINGLE_LABEL:
        rule = smallest_rule(learnt, learning)
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
    """The rule of a single-label task with the smallest sets at a coverage of 0.9, on average over the items.

    Each half of the items is given the quantile of the other half. A rule other than `threshold` must make sets that
    are smaller by more than two standard errors, or a few items would choose one by chance.
    """
    threshold, *others = (_sizes(rule, scores, answers) for rule in _RULES)
    best, most = _RULES[0], 0.0
    for rule, sizes in zip(_RULES[1:], others, strict=True):
        smaller = threshold - sizes
        if len(smaller) > 1 and smaller.mean() > max(most, 2 * smaller.std(ddof=1) / len(smaller) ** 0.5):
            best, most = rule, float(smaller.mean())
    return best


def _sizes(
    rule: LabelSets, scores: Mapping[Pattern, NDArray[np.float64]], answers: Mapping[Pattern, Answers]
) -> NDArray[np.float64]:
    """The size of each item's set (items,), a mean over the patterns that it allows."""
    sizes, items = [np.empty(0)], [np.empty(0, np.int64)]
    for pattern, rows in scores.items():
        if len(rows) < _LEAST_ITEMS:
            continue
        targets, item = answers[pattern].targets.numpy(), answers[pattern].item.numpy()
        distances, odd = rule.nonconformity(rows), item % 2 == 1
        of_truth = distances[np.arange(len(rows)), targets]
        for half in (odd, ~odd):
            quantile = quantiles(of_truth[half]).at(WATCHED_COVERAGE, 1000) if half.any() else None
            if quantile is not None and not half.all():
                sizes.append(np.maximum((distances[~half] <= quantile).sum(axis=1), 1))
                items.append(item[~half])
    every = np.concatenate(items)
    counts = np.bincount(every)
    return np.bincount(every, weights=np.concatenate(sizes))[counts > 0] / counts[counts > 0]


def set_scores(
    sets: LabelSets, answers: Answers, pattern: Pattern, calibration: Calibration, problem: Problem, coverage: float
) -> SetScores | None:
    """How the sets of a presence pattern do on items; None without items, or if the coverage is not supported."""
    return FormedSets(sets, answers, pattern, calibration, problem).scores(coverage)
