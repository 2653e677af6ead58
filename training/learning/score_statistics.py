"""The scores of `evaluation` as functions of the items' weights, which give each score and its interval."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from model_store import Problem
from training.learning.calibration import BINS, log_losses
from training.learning.intervals import Floats, Interval, OfSums, RocArea, Statistic, bootstrap, wilson

SHARES = ("accuracy", "exact_match")  # scores that are shares of the items


def score_intervals(
    scores: Mapping[str, float | None],
    logits: Tensor,
    served: Tensor,
    selected: Tensor | None,
    targets: Tensor,
    problem: Problem,
) -> dict[str, Interval]:
    """The 95 % interval of each defined score.

    Args:
        served: (n, C), the logits after the temperatures.
        selected: (n, C) of bool, the labels that a multi-label task selects.
    """
    known = {name: value for name, value in scores.items() if value is not None and name != "items"}
    shares = {name: wilson(value, len(targets)) for name, value in known.items() if name in SHARES}
    statistics = {
        **statistics_of(logits, targets, problem),
        "ece_calibrated": _calibration_error(served, targets, problem),
        "confidence": _mean(_probabilities(served, problem).max(dim=-1).values),
    }
    if selected is not None:
        statistics["macro_f1_calibrated"] = macro_f1(selected, targets, problem)
    needed = {name: statistic for name, statistic in statistics.items() if name in known and name not in SHARES}
    return shares | bootstrap(known, needed, len(targets))


def statistics_of(logits: Tensor, targets: Tensor, problem: Problem) -> dict[str, Statistic]:
    """The scores of raw logits (n, C), each by its name."""
    answers = _answers(logits, problem)
    if problem is Problem.MULTI_LABEL:
        name, is_right = "exact_match", (answers == (targets > 0)).all(dim=-1)
    else:
        name, is_right = "accuracy", logits.argmax(dim=-1) == targets
    statistics: dict[str, Statistic] = {
        name: _mean(is_right),
        "macro_f1": macro_f1(answers, targets, problem),
        "log_loss": _mean(log_losses(logits.double(), targets, problem)),
        "ece": _calibration_error(logits, targets, problem),
    }
    if problem is Problem.SINGLE_LABEL and logits.shape[1] == 2:
        difference = (logits[:, 1] - logits[:, 0]).double().numpy()
        statistics["auroc"] = RocArea(difference, targets.numpy() > 0)
    return statistics


def _probabilities(logits: Tensor, problem: Problem) -> Tensor:
    return logits.sigmoid() if problem is Problem.MULTI_LABEL else logits.softmax(dim=-1)


def _answers(logits: Tensor, problem: Problem) -> Tensor:
    """(n, C) of bool: the labels above 0.5, or the best label."""
    if problem is Problem.MULTI_LABEL:
        return logits > 0
    return torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[1]).bool()


def _mean(values: Tensor) -> OfSums:
    columns = np.stack([values.double().numpy(), np.ones(len(values))], axis=1)
    return OfSums(columns, lambda sums: sums[:, 0] / sums[:, 1])


def macro_f1(answers: Tensor, targets: Tensor, problem: Problem) -> OfSums:
    """Macro-F1 of answers (n, C) of bool; of a single-label task, over the labels that occur in answers or targets."""
    classes, is_multi = answers.shape[1], problem is Problem.MULTI_LABEL
    truth = targets > 0 if is_multi else torch.nn.functional.one_hot(targets, classes).bool()
    columns = torch.cat([answers & truth, answers, truth], dim=1).double().numpy()  # (n, 3C)

    def value(sums: Floats) -> Floats:
        hits, answered, true = np.split(sums, 3, axis=1)
        f1 = 2 * hits / np.maximum(answered + true, 1)
        counted = np.ones_like(f1) if is_multi else (answered + true > 0)
        return np.asarray((f1 * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1))

    return OfSums(columns, value)


def _calibration_error(logits: Tensor, targets: Tensor, problem: Problem) -> OfSums:
    """The expected calibration error in the bins of `calibration.reliability`."""
    if problem is Problem.MULTI_LABEL:
        confidence, correct = logits.sigmoid(), targets > 0  # (n, C)
    else:
        best = logits.softmax(dim=-1).max(dim=-1)
        confidence, correct = best.values.unsqueeze(1), (best.indices == targets).unsqueeze(1)  # (n, 1)
    edges = torch.linspace(0, 1, BINS + 1, dtype=confidence.dtype)
    bins = torch.bucketize(confidence.contiguous(), edges, right=True) - 1
    gaps = torch.zeros(len(bins), BINS + 1, dtype=torch.float64)
    gaps.scatter_add_(1, bins, (confidence - correct.to(confidence.dtype)).double())  # (n, bins)
    columns = np.concatenate([gaps.numpy(), np.full((len(bins), 1), float(bins.shape[1]))], axis=1)
    return OfSums(columns, lambda sums: np.asarray(np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]))
