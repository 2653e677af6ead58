"""The training loss of retrieval: a query finds its target among the targets of the batch, and a target its query."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


class ContrastiveObjective:
    """Symmetric InfoNCE (Oord et al. 2018, arXiv 1807.03748) over the pairs of a batch.

    The other pairs of the batch are the negatives, except those of the same target. As in classification, a complete
    query with modality dropout p counts as `(1 - p) loss(both) + p / 2 (loss(image) + loss(text))`, and distillation
    adds the cross entropy of the two partial answers to the complete answer. Targets stay as they are.
    """

    def __init__(self, temperature: float, modality_dropout: float, distillation: float) -> None:
        self._temperature = temperature
        self._modality_dropout = modality_dropout
        self._distillation = distillation

    def __call__(
        self,
        queries: Tensor,
        image_alone: Tensor,
        text_alone: Tensor,
        complete: Tensor,
        targets: Tensor,
        contents: Tensor,
    ) -> Tensor:
        """The mean over pairs.

        Args:
            queries, targets: (B, D) of length 1; image_alone, text_alone: (B, D), queries without the other modality.
            complete: (B,), which queries have both modalities.
            contents: (B,), equal for equal targets.
        """
        similarities = self._similarities_to(targets, contents)
        whole = similarities(queries)
        loss = _both_ways(whole)
        if not (self._modality_dropout or self._distillation):
            return loss.mean()
        chosen = complete.unsqueeze(1)
        alone = [similarities(torch.where(chosen, each, queries)) for each in (image_alone, text_alone)]
        if self._modality_dropout:
            masked = torch.stack([_both_ways(each) for each in alone]).mean(dim=0)  # an incomplete query stays as it is
            loss = torch.lerp(loss, masked, self._modality_dropout)
        if self._distillation:
            teacher = whole.detach().softmax(dim=-1)
            taught = torch.stack([_cross_entropy(each, teacher) for each in alone]).mean(dim=0)
            loss = loss + self._distillation * torch.where(complete, taught, torch.zeros_like(taught))
        return loss.mean()

    def _similarities_to(self, targets: Tensor, contents: Tensor) -> Callable[[Tensor], Tensor]:
        """The function from queries (B, D) to `cosine / temperature` (B, B), minus infinity for repeated targets."""
        equal = contents.unsqueeze(0) == contents.unsqueeze(1)
        repeated = equal & ~torch.eye(len(contents), dtype=torch.bool, device=contents.device)

        def similarities(queries: Tensor) -> Tensor:
            return (queries @ targets.T / self._temperature).masked_fill(repeated, -math.inf)

        return similarities


def _both_ways(similarities: Tensor) -> Tensor:
    """The mean loss (B,) of each pair from query to target and from target to query."""
    own = torch.arange(len(similarities), device=similarities.device)
    forth = functional.cross_entropy(similarities, own, reduction="none")
    return (forth + functional.cross_entropy(similarities.T, own, reduction="none")) / 2


def _cross_entropy(similarities: Tensor, teacher: Tensor) -> Tensor:
    """(B,); a repeated target has probability 0 and adds nothing."""
    return -(teacher * similarities.log_softmax(dim=-1).masked_fill(teacher == 0, 0.0)).sum(dim=-1)
