"""Metrics of a trained model: under the configured missing table, and for each presence pattern."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.functional import classification as metrics

from model_store import Calibration, Pattern, Problem
from training.data.missing import PATTERN_OF, Table
from training.data.splits import Split
from training.learning.calibration import BINS, log_losses
from training.learning.encoded_split import EncodedSplit

Scores = dict[str, float | None]  # None: no items, or undefined for them
Calibrations = Mapping[Pattern, Calibration]
_LEAST_DIFFERENCE = 1e-6  # of two scores: `score` rounds to six digits


def score(logits: Tensor, targets: Tensor, problem: Problem) -> Scores:
    """Accuracy, macro-F1, log loss and expected calibration error; for two classes also AUROC. None where undefined.

    Multi-label: labels above 0.5 are predicted, accuracy is the share of exact sets, log loss is summed over the labels
    and calibration is over every label.
    """
    classes = logits.shape[1]
    names = ["accuracy", "macro_f1", "log_loss", "ece"]
    if problem is Problem.SINGLE_LABEL and classes == 2:
        names.append("auroc")
    if len(logits) == 0 or not bool(logits.isfinite().all()):
        return {"items": len(logits), **dict.fromkeys(names)}
    if problem is Problem.MULTI_LABEL:
        probabilities, truth = logits.sigmoid(), targets.int()
        values = {
            "accuracy": metrics.multilabel_exact_match(probabilities, truth, classes),
            "macro_f1": metrics.multilabel_f1_score(probabilities, truth, classes, average="macro"),
            "ece": metrics.binary_calibration_error(probabilities.flatten(), truth.flatten(), n_bins=BINS),
        }
    else:
        probabilities = logits.softmax(dim=-1)
        values = {
            "accuracy": metrics.multiclass_accuracy(probabilities, targets, classes, average="micro"),
            "macro_f1": metrics.multiclass_f1_score(probabilities, targets, classes, average="macro"),
            "ece": metrics.multiclass_calibration_error(probabilities, targets, classes, n_bins=BINS),
        }
        if classes == 2 and 0 < int(targets.sum()) < len(targets):
            values["auroc"] = metrics.binary_auroc(probabilities[:, 1], targets)
    values["log_loss"] = log_losses(logits, targets, problem).mean()
    rounded = {name: round(float(value), 6) for name, value in values.items()}
    return {"items": len(logits), **{name: rounded.get(name) for name in names}}


def evaluate_splits(
    head: nn.Linear,
    encoded: Mapping[str, EncodedSplit],
    tables: Mapping[str, Table],
    problem: Problem,
    calibrations: Calibrations,
) -> dict[str, Any]:
    """Scores of each encoded split, overall and per presence pattern."""
    return {name: evaluate(head, split, tables[name], problem, calibrations) for name, split in encoded.items()}


def evaluate(
    head: nn.Linear, encoded: EncodedSplit, table: Table, problem: Problem, calibrations: Calibrations
) -> dict[str, Scores]:
    """Scores under the configured table (`overall`), and under each presence pattern on every item that allows it.

    `ece_calibrated` is the calibration error of the served scores, which each pattern's temperature has scaled. Of a
    multi-label task, `macro_f1_calibrated` is the F1 of the labels that the service selects by each pattern's
    thresholds. `confidence` is the mean highest served score, which the service exports as
    `mora_prediction_confidence`: lower confidence on live traffic indicates that the data has drifted.
    """
    everything = np.ones(len(table), dtype=bool)
    views = {"overall": (table, everything), **{pattern.value: encoded.under(pattern) for pattern in Pattern}}
    return {
        name: _scores(encoded.logits(head, view)[chosen], encoded.targets[chosen], view[chosen], problem, calibrations)
        for name, (view, chosen) in views.items()
    }


def calibrated(logits: Tensor, table: Table, calibrations: Calibrations) -> Tensor:
    """(N, C): each row divided by the temperature of the pattern that the table gives it."""
    temperature = torch.tensor([calibrations[PATTERN_OF[lacks]].temperature for lacks in table])
    return logits / temperature.unsqueeze(1)


def _scores(logits: Tensor, targets: Tensor, table: Table, problem: Problem, calibrations: Calibrations) -> Scores:
    scores = score(logits, targets, problem)
    served = calibrated(logits, table, calibrations)
    scores["ece_calibrated"] = score(served, targets, problem)["ece"]
    scores["confidence"] = None
    if scores["accuracy"] is not None:
        probabilities = served.sigmoid() if problem is Problem.MULTI_LABEL else served.softmax(dim=-1)
        scores["confidence"] = round(float(probabilities.max(dim=-1).values.mean()), 6)
        if problem is Problem.MULTI_LABEL:
            thresholds = torch.tensor([calibrations[PATTERN_OF[lacks]].thresholds for lacks in table])  # (N, C)
            selected = (probabilities >= thresholds).int()
            f1 = metrics.multilabel_f1_score(selected, targets.int(), logits.shape[1], average="macro")
            scores["macro_f1_calibrated"] = round(float(f1), 6)
    return scores


def headline_metric(problem: Problem, labels: tuple[str, ...], split: Split) -> str:
    """The score that reports name first: the usual one of the problem (METHOD: protocol)."""
    if problem is Problem.MULTI_LABEL:
        return "macro_f1"
    present = {label for item in split.items for label in item.labels}
    return "auroc" if len(labels) == 2 and present == set(labels) else "accuracy"


def chance_log_loss(problem: Problem, classes: int) -> float:
    """The log loss of an answer that gives every label the same score."""
    return classes * math.log(2) if problem is Problem.MULTI_LABEL else math.log(classes)


def selection_score(scores: Scores, headline: str) -> float | None:
    """The validation score that selects epochs and learning rates; the highest is the best, None is undefined.

    It is the headline metric; of two equal ones, the model with the lower log loss has a score that is higher by less
    than the metric's last digit. With two labels it is the negative log loss alone: AUROC does not notice a model that
    gives every item the same label.
    """
    log_loss, metric = scores.get("log_loss"), scores[headline]
    if metric is None or log_loss is None:  # runs of earlier versions have no log loss
        return metric
    if headline == "auroc":
        return -log_loss
    return metric - _LEAST_DIFFERENCE * log_loss / (1 + log_loss)
