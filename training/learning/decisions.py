"""The decisions of the service from logits and calibration, and how right they are."""

from __future__ import annotations

import torch
from torch import Tensor

from model_store import Calibration

_LEAST_SHARE = 1e-6  # of a threshold from 0 and 1, where its logit is infinite


def decision_logits(logits: Tensor, calibration: Calibration) -> Tensor:
    """Calibrated logits (n, C) in which the threshold of every label is at 0.

    Single-label: the label with the highest one is the answer. Multi-label: the labels from 0 on are selected.
    """
    scaled = logits.double() / calibration.temperature
    if calibration.thresholds is None:
        return scaled
    return scaled - torch.logit(torch.tensor(calibration.thresholds, dtype=torch.float64), eps=_LEAST_SHARE)


def answer_scores(logits: Tensor, targets: Tensor, calibration: Calibration) -> Tensor:
    """How right each answer is, from 0 to 1 (n,).

    Single-label: 1 for the right label. Multi-label: F1 of the selected labels, and 1 for an item that has no label and
    gets none.
    """
    decided = decision_logits(logits, calibration)
    if calibration.thresholds is None:
        return (decided.argmax(dim=-1) == targets).double()
    selected, true = decided >= 0, targets > 0
    count = (selected.sum(dim=-1) + true.sum(dim=-1)).double()
    return torch.where(count == 0, 1.0, 2 * (selected & true).sum(dim=-1) / count)
