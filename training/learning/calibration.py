"""Calibration: a temperature for each presence pattern, and the threshold that selects a label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model_store import Calibration, Pattern, Problem

BINS = 15
_COOLEST, _HOTTEST, _STEPS = 0.05, 20.0, 200
_PRIOR_POSITIVES = 30  # weight of the mean F1 of all labels, as a number of positives
_CANDIDATES = np.round(np.arange(0.02, 0.99, 0.01), 2)


def calibrate(answers: Mapping[Pattern, tuple[Tensor, Tensor]], problem: Problem) -> dict[Pattern, Calibration]:
    """Temperature and thresholds of each pattern from its validation logits (N, C) and targets."""
    calibrations = {}
    for pattern, (logits, targets) in answers.items():
        temperature = fit_temperature(logits, targets, problem)
        thresholds = None
        if problem is Problem.MULTI_LABEL:
            thresholds = fit_thresholds((logits.double() / temperature).sigmoid().numpy(), targets.numpy())
        calibrations[pattern] = Calibration(temperature=temperature, thresholds=thresholds)
    return calibrations


def fit_temperature(logits: Tensor, targets: Tensor, problem: Problem) -> float:
    """The T that minimises the negative log likelihood of `logits / T` (Guo et al. 2017, arXiv 1706.04599).

    The likelihood has one optimum in 1 / T, and each step of the search narrows the range around it. For one item, or
    if every answer is right, the likelihood has no optimum, and T is 1.

    Args:
        logits: (N, C); targets: class indices (N,), or (N, C) of 0 and 1.
    """
    right = (logits > 0) == (targets > 0) if problem is Problem.MULTI_LABEL else logits.argmax(dim=-1) == targets
    if len(logits) < 2 or right.all():
        return 1.0
    logits = logits.double()
    loss = functional.binary_cross_entropy_with_logits if problem is Problem.MULTI_LABEL else functional.cross_entropy
    targets = targets.double() if problem is Problem.MULTI_LABEL else targets
    inverse = torch.linspace(np.log(1 / _HOTTEST), np.log(1 / _COOLEST), _STEPS, dtype=torch.float64).exp()
    for _ in range(3):  # each step searches between the neighbours of the best value so far
        losses = torch.stack([loss(logits * value, targets) for value in inverse])
        best = int(losses.argmin())
        low, high = inverse[max(best - 1, 0)], inverse[min(best + 1, len(inverse) - 1)]
        inverse = torch.linspace(float(low), float(high), 21, dtype=torch.float64)
    optimum = inverse[int(torch.stack([loss(logits * value, targets) for value in inverse]).argmin())]
    return float(1 / optimum) if loss(logits * optimum, targets) < loss(logits, targets) else 1.0


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
    """Answers (single-label: the best label; multi-label: every label) by confidence, in the bins of torchmetrics."""
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
