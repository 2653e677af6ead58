"""A split of a retrieval task as both towers encode it: its queries, and its distinct targets."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_store import Pattern
from training.data.copies import distinct_targets
from training.data.missing import Table
from training.data.splits import Split, TaskData
from training.learning.batches import Collator
from training.learning.calibration import Answers
from training.learning.encoded_split import SCORED, EncodedSplit, encode
from training.model.classifier import MissingModalityClassifier

_QUERIES_AT_ONCE = 1024


class Ranks(NamedTuple):
    """How each query finds its target among all targets of the split.

    Shapes:
        rank: (n,), the number of other targets that are at least as similar to the query; loss: (n,), InfoNCE.
    """

    rank: Tensor
    loss: Tensor


@dataclass(frozen=True)
class EncodedPairs:
    """Both towers' features of every query and of every distinct target.

    The `targets` of `queries` (N,) are rows of `gallery`.
    """

    queries: EncodedSplit
    gallery: EncodedSplit

    def targets(self, head: nn.Linear) -> Tensor:
        """The unit vectors (T, D) of the targets, with every modality that they have."""
        return self.gallery.logits(head, self.gallery.natural)

    def ranks(self, head: nn.Linear, table: Table, temperature: float) -> Ranks:
        """The rank of each query's target, without the query's modalities that the missing table takes away."""
        return rank_all(self.queries.logits(head, table), self.targets(head), self.queries.targets, temperature)

    def of_pattern(self, head: nn.Linear, pattern: Pattern) -> Answers:
        """The cosines with every target (n, T) of the queries that allow the pattern, without their other modality."""
        answers = self.queries.of_pattern(head, pattern)
        return replace(answers, logits=answers.logits @ self.targets(head).T)

    def under(self, pattern: Pattern) -> tuple[Table, NDArray[np.bool_]]:
        """As `EncodedSplit.under`, of the queries."""
        return self.queries.under(pattern)


def rank_all(queries: Tensor, targets: Tensor, own: Tensor, temperature: float) -> Ranks:
    """The rank of each query's target.

    Of equally similar targets, the query's own is the last: a model that maps all targets to one vector finds none.

    Args:
        queries, targets: (n, D) and (T, D), of length 1.
        own: (n,), rows of targets.
    """
    ranks, losses = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0)]
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        rows = own[start : start + _QUERIES_AT_ONCE]
        cosines = queries[start : start + _QUERIES_AT_ONCE] @ targets.T
        ranks.append((cosines >= cosines.gather(1, rows.unsqueeze(1))).sum(dim=1) - 1)
        losses.append(torch.nn.functional.cross_entropy(cosines / temperature, rows, reduction="none"))
    return Ranks(torch.cat(ranks), torch.cat(losses))


def pairs_of(queries: EncodedSplit, gallery: EncodedSplit) -> EncodedPairs:
    """The pairs of two encoded splits, whose content numbers say which target each query has."""
    row_of = {number: row for row, number in enumerate(gallery.targets.tolist())}
    rows = torch.tensor([row_of[number] for number in queries.targets.tolist()], dtype=torch.int64)
    return EncodedPairs(replace(queries, targets=rows), gallery)


def encode_pairs(model: MissingModalityClassifier, split: Split, collator: Collator) -> EncodedPairs:
    """Run each tower once over the queries and once over the targets of a split.

    Raises DivergedError if features are not finite.
    """
    gallery = replace(split, items=distinct_targets(split.items), name=f"targets of {split.name}")
    return pairs_of(encode(model, split, collator), encode(model, gallery, collator))


def encode_all_pairs(
    model: MissingModalityClassifier, data: TaskData, collator: Collator, names: Collection[str] = SCORED
) -> dict[str, EncodedPairs]:
    """Encode the splits of these names, by default those that are scored."""
    return {name: encode_pairs(model, data.splits()[name], collator) for name in names}
