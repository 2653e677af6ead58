"""Class weights for long-tailed data, and the correction of multi-label scores after training with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from model_store import Pattern, Problem
from training.learning.calibration import Answers, log_losses

_SHARES = torch.linspace(0, 1, 101)


def balanced_weights(targets: Tensor, problem: Problem, classes: int) -> Tensor:
    """The weights (C,) with which every label counts the same in the loss.

    Single-label: of an item with the label, so that all labels have the same total and the mean over items is 1.
    Multi-label: of an item with the label, relative to one without it: (N - n) / n, where n of N items have it. A label
    that no item has, or that every item has, has the weight 1.

    Args:
        targets: of the training items: class indices (N,), or (N, C) of 0 and 1.
    """
    items = len(targets)
    if problem is Problem.MULTI_LABEL:
        counts = targets.sum(dim=0)
        weights = (items - counts) / counts
        return torch.where((counts == 0) | (counts == items), torch.ones(classes), weights)
    counts = torch.bincount(targets, minlength=classes)
    return torch.where(counts == 0, torch.ones(classes), items / (counts * (counts > 0).sum()))


def remove_shift(head: nn.Linear, held_out: Mapping[Pattern, Answers], weights: Tensor) -> dict[Pattern, Answers]:
    """Correct the bias of a multi-label head that was trained with these weights; return its corrected answers.

    The weights raise the logit of a rare label by up to their logarithm. The share of it that makes the held-out
    answers most likely without weights is removed. Thresholds, which are fitted afterwards, still select the label.
    """
    logits = torch.cat([answers.logits for answers in held_out.values()])
    targets = torch.cat([answers.targets for answers in held_out.values()])
    losses = [log_losses(logits - share * weights.log(), targets, Problem.MULTI_LABEL).sum() for share in _SHARES]
    shift = _SHARES[int(torch.stack(losses).argmin())] * weights.log()
    with torch.no_grad():
        head.bias.sub_(shift)
    return {pattern: replace(answers, logits=answers.logits - shift) for pattern, answers in held_out.items()}
