"""The training loss: every item has the same weight, and a complete item also counts with one modality hidden."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from model_store import Problem


class Objective:
    """The loss of each item under its presence pattern, and of complete items also with one modality hidden.

    With modality dropout p, a complete item counts as `(1 - p) loss(both) + p / 2 (loss(image) + loss(text))`. That is
    the expected loss when one modality is hidden with probability p in each epoch. No tower runs again for it: the
    towers are independent, so the features of the complete item give all three answers. An input that the missing
    table hides stays hidden. Distillation adds the cross entropy of the two partial answers to the complete answer.
    """

    class_weights: Tensor | None = None  # (C,), of the true labels; for multi-label of the items that have a label

    def __init__(self, problem: Problem, modality_dropout: float, distillation: float) -> None:
        self._problem = problem
        self._modality_dropout = modality_dropout
        self._distillation = distillation

    def __call__(
        self, logits: Tensor, image_alone: Tensor, text_alone: Tensor, complete: Tensor, labels: Tensor
    ) -> Tensor:
        """The mean over items.

        Args:
            logits: (B, C) of each item; image_alone, text_alone: (B, C) without the other modality.
            complete: (B,), which items have both modalities.
            labels: (B,) class indices, or (B, C) of 0 and 1.
        """
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        loss = self._each(logits, labels, weights)
        if self._modality_dropout:
            masked = (self._each(image_alone, labels, weights) + self._each(text_alone, labels, weights)) / 2
            loss = torch.where(complete, torch.lerp(loss, masked, self._modality_dropout), loss)
        if self._distillation:
            whole = logits.detach()
            teacher = whole.sigmoid() if self._problem is Problem.MULTI_LABEL else whole.softmax(dim=-1)
            taught = (self._each(image_alone, teacher) + self._each(text_alone, teacher)) / 2
            loss = loss + self._distillation * torch.where(complete, taught, torch.zeros_like(taught))
        return loss.mean()

    def _each(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The loss of each item (B,)."""
        if self._problem is Problem.MULTI_LABEL:
            losses = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
            return losses.mean(dim=-1)
        return functional.cross_entropy(logits, targets, weight=weights, reduction="none")
