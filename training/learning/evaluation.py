"""Metrics of a trained model: under the configured missing table, and for each presence pattern."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from model_store import Calibration, Pattern, Problem
from training.config import TaskConfig
from training.data.missing import PATTERN_OF, Table
from training.data.splits import Split
from training.learning.encoded_split import EncodedSplit
from training.learning.intervals import Interval, value_of
from training.learning.score_statistics import macro_f1, score_intervals, statistics_of

Scores = dict[str, float | None]  # None: no items, or undefined for them
Calibrations = Mapping[Pattern, Calibration]
_LEAST_DIFFERENCE = 1e-6  # of two scores: `score` rounds to six digits


def score(logits: Tensor, targets: Tensor, problem: Problem) -> Scores:
    """Accuracy, macro-F1, log loss and expected calibration error; for two classes also AUROC. None where undefined.

    Multi-label: labels above 0.5 are predicted, `exact_match`, the share of exact sets, is in place of accuracy, log
    loss is summed over the labels and calibration is over every label.
    """
    classes = logits.shape[1]
    names = ["exact_match" if problem is Problem.MULTI_LABEL else "accuracy", "macro_f1", "log_loss", "ece"]
    if problem is Problem.SINGLE_LABEL and classes == 2:
        names.append("auroc")
    if len(logits) == 0 or not bool(logits.isfinite().all()):
        return {"items": len(logits), **dict.fromkeys(names)}
    values = {name: value_of(each, len(logits)) for name, each in statistics_of(logits, targets, problem).items()}
    return {
        "items": len(logits),
        **{name: None if math.isnan(values[name]) else round(values[name], 6) for name in names},
    }


def evaluate_splits(
    head: nn.Linear,
    encoded: Mapping[str, EncodedSplit],
    tables: Mapping[str, Table],
    problem: Problem,
    calibrations: Calibrations,
) -> dict[str, Any]:
    """Scores of each encoded split, overall and per presence pattern; under `intervals` their 95 % intervals."""
    results = {name: evaluate(head, split, tables[name], problem, calibrations) for name, split in encoded.items()}
    scores, intervals = ({name: result[part] for name, result in results.items()} for part in (0, 1))
    return {**scores, "intervals": intervals}


def evaluate(
    head: nn.Linear, encoded: EncodedSplit, table: Table, problem: Problem, calibrations: Calibrations
) -> tuple[dict[str, Scores], dict[str, dict[str, Interval]]]:
    """Scores under the configured table (`overall`), and under each presence pattern on every item that allows it.

    `ece_calibrated` is the calibration error of the served scores, which each pattern's temperature has scaled. Of a
    multi-label task, `macro_f1_calibrated` is the F1 of the labels that the service selects by each pattern's
    thresholds. `confidence` is the mean highest served score, which the service exports as
    `mora_prediction_confidence`: lower confidence on live traffic indicates that the data has drifted.

    Returns:
        By view the scores, and the 95 % intervals of those that are defined.
    """
    views = _views(head, encoded, table, problem, calibrations)
    scores = {name: _scores(view, problem) for name, view in views.items()}
    return scores, {name: _intervals(scores[name], view, problem) for name, view in views.items()}


class _View(NamedTuple):
    """The answers to the items of one view: raw logits, served logits, and of multi-label the selected labels."""

    logits: Tensor
    targets: Tensor
    served: Tensor
    selected: Tensor | None


def _views(
    head: nn.Linear, encoded: EncodedSplit, table: Table, problem: Problem, calibrations: Calibrations
) -> dict[str, _View]:
    everything = np.ones(len(table), dtype=bool)
    tables = {"overall": (table, everything), **{pattern.value: encoded.under(pattern) for pattern in Pattern}}
    views = {}
    for name, (hidden, chosen) in tables.items():
        logits = encoded.logits(head, hidden)[chosen]
        served, selected = calibrated(logits, hidden[chosen], calibrations), None
        if problem is Problem.MULTI_LABEL:
            thresholds = [calibrations[PATTERN_OF[lacks]].thresholds for lacks in hidden[chosen]]
            selected = served.sigmoid() >= torch.tensor(thresholds).reshape(logits.shape)
        views[name] = _View(logits, encoded.targets[chosen], served, selected)
    return views


def calibrated(logits: Tensor, table: Table, calibrations: Calibrations) -> Tensor:
    """(N, C): each row divided by the temperature of the pattern that the table gives it."""
    temperature = torch.tensor([calibrations[PATTERN_OF[lacks]].temperature for lacks in table])
    return logits / temperature.unsqueeze(1)


def _scores(view: _View, problem: Problem) -> Scores:
    scores = score(view.logits, view.targets, problem)
    scores["ece_calibrated"] = score(view.served, view.targets, problem)["ece"]
    scores["confidence"] = None
    if view.selected is not None:
        scores["macro_f1_calibrated"] = None
    if scores["log_loss"] is not None:
        is_multi = problem is Problem.MULTI_LABEL
        probabilities = view.served.sigmoid() if is_multi else view.served.softmax(dim=-1)
        scores["confidence"] = round(float(probabilities.max(dim=-1).values.mean()), 6)
        if view.selected is not None:
            f1 = macro_f1(view.selected, view.targets, problem)
            scores["macro_f1_calibrated"] = round(value_of(f1, len(view.targets)), 6)
    return scores


def _intervals(scores: Scores, view: _View, problem: Problem) -> dict[str, Interval]:
    if scores["log_loss"] is None:
        return {}
    return score_intervals(scores, view.logits, view.served, view.selected, view.targets, problem)


def headline_metric(problem: Problem, labels: tuple[str, ...], split: Split) -> str:
    """The score that reports name first: the usual one of the problem (METHOD: protocol)."""
    if problem is Problem.RETRIEVAL:
        return "recall_at_1"
    if problem is Problem.MULTI_LABEL:
        return "macro_f1"
    present = {label for item in split.items for label in item.labels}
    return "auroc" if len(labels) == 2 and present == set(labels) else "accuracy"


def chance_log_loss(problem: Problem, classes: int) -> float:
    """The log loss of an answer that gives every label, or every target of a retrieval task, the same score."""
    return classes * math.log(2) if problem is Problem.MULTI_LABEL else math.log(classes)


def selection_metric(config: TaskConfig, labels: tuple[str, ...], split: Split) -> str:
    """The metric that selects epochs: the headline metric; with class weights macro-F1, which counts labels alike."""
    is_balanced = config.train.class_weights == "balanced"
    return "macro_f1" if is_balanced else headline_metric(config.problem, labels, split)


def selection_score(scores: Scores, name: str) -> float | None:
    """The validation score that selects epochs and learning rates; the highest is the best, None is undefined.

    It is the selection metric; of two equal ones, the model with the lower log loss has a score that is higher by less
    than the metric's last digit. In place of AUROC it is the negative log loss alone: AUROC does not notice a model
    that gives every item the same label.
    """
    log_loss, metric = scores.get("log_loss"), scores[name]
    if metric is None or log_loss is None:  # runs of earlier versions have no log loss
        return metric
    if name == "auroc":
        return -log_loss
    return metric - _LEAST_DIFFERENCE * log_loss / (1 + log_loss)
