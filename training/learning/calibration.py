"""Calibration: a temperature for each presence pattern, and the threshold that selects a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model_store import Calibration, Pattern, Problem

BINS = 15
FEW_ITEMS = 50  # with fewer, the prior decides more of a pattern's temperature than its items
_FOLDS = 5
_PRIOR_POSITIVES = 30  # weight of the mean F1 of all labels, as a number of positives
_CANDIDATES = np.round(np.arange(0.02, 0.99, 0.01), 2)
_LOG_TEMPERATURES = torch.linspace(-3.0, 3.0, 201, dtype=torch.float64)  # T from 0.05 to 20
_ONE = 100  # the position of T = 1
_COMMON_SPREAD = 0.5  # standard deviation of the common log temperature, around 0
_OWN_SPREAD = 0.25  # standard deviation of a pattern's log temperature, around the common one


@dataclass(frozen=True)
class Answers:
    """Logits of the items that allow a presence pattern, with their targets.

    Shapes:
        logits: (n, C); targets: class indices (n,), or (n, C) of 0 and 1.
        item: (n,), the row of each item in its split. A complete item is among the answers of every pattern.
    """

    logits: Tensor
    targets: Tensor
    item: Tensor

    def where(self, chosen: Tensor) -> Answers:
        """The answers at these positions, or where this mask (n,) is true."""
        return Answers(self.logits[chosen], self.targets[chosen], self.item[chosen])


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers of several splits; items of the same row share a fold of the cross-validation."""
    columns = (torch.cat([getattr(part, name) for part in parts]) for name in ("logits", "targets", "item"))
    return Answers(*columns)


def calibrate(answers: Mapping[Pattern, Answers], problem: Problem) -> dict[Pattern, Calibration]:
    """Temperature and thresholds of each pattern, from answers to items that did not train the model."""
    calibrations = {}
    for pattern, temperature in fit_temperatures(answers, problem).items():
        thresholds = None
        if problem is Problem.MULTI_LABEL:
            probabilities = (answers[pattern].logits.double() / temperature).sigmoid()
            thresholds = fit_thresholds(probabilities.numpy(), answers[pattern].targets.numpy())
        calibrations[pattern] = Calibration(temperature=temperature, thresholds=thresholds)
    return calibrations


def fit_temperatures(answers: Mapping[Pattern, Answers], problem: Problem) -> dict[Pattern, float]:
    """The temperature T of each pattern; 1 where it does not clearly make held-out answers more likely.

    T maximises the likelihood of `logits / T` (Guo et al. 2017, arXiv 1706.04599) times a prior, which decides where
    items are few: log T is normal around a common log temperature, and that one is normal around 0. Cross-validation
    over the items decides whether a pattern's T is used: its gain over T = 1 must exceed a standard error.
    """
    losses = {pattern: _losses(each, problem) for pattern, each in answers.items()}  # (n, temperatures)
    temperatures = _most_likely({pattern: rows.sum(dim=0) for pattern, rows in losses.items()})
    gains: dict[Pattern, list[Tensor]] = {pattern: [] for pattern in losses}  # log likelihood of items over T = 1
    for fold in range(_FOLDS):
        held_out = {pattern: each.item % _FOLDS == fold for pattern, each in answers.items()}
        others = _most_likely({pattern: rows[~held_out[pattern]].sum(dim=0) for pattern, rows in losses.items()})
        for pattern, rows in losses.items():
            own = rows[held_out[pattern]]
            gains[pattern].append(own[:, _ONE] - own[:, others[pattern]])
    return {
        pattern: float(_LOG_TEMPERATURES[chosen].exp()) if _is_clear(torch.cat(gains[pattern])) else 1.0
        for pattern, chosen in temperatures.items()
    }


def _is_clear(gains: Tensor) -> bool:
    """Whether the sum of the items' gains (n,) exceeds its standard error."""
    return len(gains) > 1 and float(gains.sum()) > float(gains.std()) * len(gains) ** 0.5


def log_losses(logits: Tensor, targets: Tensor, problem: Problem, weights: Tensor | None = None) -> Tensor:
    """Negative log likelihood (n,) of each item; for multi-label the sum over its labels.

    Args:
        weights: (C,), class weights.
    """
    if problem is Problem.MULTI_LABEL:
        targets = targets.to(logits.dtype)
        losses = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
        return losses.sum(dim=-1)
    return functional.cross_entropy(logits, targets, weight=weights, reduction="none")


def _losses(answers: Answers, problem: Problem) -> Tensor:
    """Negative log likelihood (n, temperatures) of each item at each temperature."""
    logits, inverses = answers.logits.double(), (-_LOG_TEMPERATURES).exp()
    return torch.stack([log_losses(logits * inverse, answers.targets, problem) for inverse in inverses], dim=1)


def _most_likely(losses: Mapping[Pattern, Tensor]) -> dict[Pattern, int]:
    """The position of each pattern's temperature in `_LOG_TEMPERATURES`, under the prior.

    Args:
        losses: (temperatures,), summed over items.
    """
    distance = _LOG_TEMPERATURES - _LOG_TEMPERATURES.unsqueeze(1)  # (common, own)
    penalty = (distance / _OWN_SPREAD).square() / 2
    costs = {pattern: loss + penalty for pattern, loss in losses.items()}  # (common, own)
    prior = (_LOG_TEMPERATURES / _COMMON_SPREAD).square() / 2
    common = int(torch.stack([prior, *(cost.amin(dim=1) for cost in costs.values())]).sum(dim=0).argmin())
    return {pattern: int(cost[common].argmin()) for pattern, cost in costs.items()}


def fit_thresholds(probabilities: NDArray[np.float64], targets: NDArray[np.float32]) -> tuple[float, ...]:
    """For each label the lowest probability that selects it, chosen for the best F1.

    The F1 of a label with few positives is noise. So it is averaged with the mean F1 of all labels, which weighs as
    much as thirty positives.

    Args:
        probabilities, targets: (N, C).
    """
    if not targets.any():
        return (0.5,) * int(targets.shape[1])
    truth = targets.astype(bool)
    f1 = np.stack([_f1(probabilities >= candidate, truth) for candidate in _CANDIDATES])  # (candidates, C)
    positives = truth.sum(axis=0)
    shared = f1[:, positives > 0].mean(axis=1, keepdims=True)
    weighed = (positives * f1 + _PRIOR_POSITIVES * shared) / (positives + _PRIOR_POSITIVES)
    best = np.isclose(weighed, weighed.max(axis=0))  # of several best candidates, the middle one is the safest
    return tuple(float(np.median(_CANDIDATES[chosen])) for chosen in best.T)


def _f1(selected: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(C,); 0 for a label that is never true and never selected."""
    hits = (selected & truth).sum(axis=0)
    return np.asarray(2 * hits / np.maximum(selected.sum(axis=0) + truth.sum(axis=0), 1))


@dataclass(frozen=True)
class Bins:
    """Accuracy of answers by their confidence; an empty bin has count 0.

    Shapes:
        all (bins + 1,): bins of equal width, each without its upper edge, and one for a confidence of 1.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]

    @property
    def expected_error(self) -> float:
        """Expected calibration error: the mean distance of confidence from accuracy."""
        total = max(int(self.count.sum()), 1)
        return float((np.abs(self.confidence - self.accuracy) * self.count).sum() / total)


def reliability(logits: Tensor, targets: Tensor, problem: Problem) -> Bins:
    """Answers (single-label: the best label; multi-label: every label) by confidence."""
    if problem is Problem.MULTI_LABEL:
        confidence, correct = logits.sigmoid().flatten(), targets.flatten() > 0
    else:
        confidence, answer = logits.softmax(dim=-1).max(dim=-1)
        correct = answer == targets
    edges = torch.linspace(0, 1, BINS + 1, dtype=confidence.dtype)
    bins = torch.bucketize(confidence, edges, right=True).numpy() - 1
    count = np.bincount(bins, minlength=BINS + 1)
    confidences, accuracies = (
        np.bincount(bins, weights=values.numpy(), minlength=BINS + 1) / np.maximum(count, 1)
        for values in (confidence, correct)
    )
    return Bins(confidences, accuracies, count)
