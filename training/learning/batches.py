"""Batches for the Trainer: items under a missing table, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from model_store import Problem
from training.data.examples import Example, digest_of
from training.data.missing import Table, masked
from training.data.splits import Split
from training.errors import naming_row
from training.model.preprocessing import Preprocessor

Batch = dict[str, Tensor]


class MaskedExamples(Dataset[Example]):
    """The items of a split without the modalities that the missing table takes away."""

    def __init__(self, split: Split, table: Table) -> None:
        self.split = split
        self.table = table

    def __len__(self) -> int:
        return len(self.split.items)

    def __getitem__(self, index: int) -> Example:
        return masked(self.split.items[index], self.table[index])


class Inputs(Protocol):
    """The inputs of the towers: pixels and tokens, or the outputs of the trunks for them."""

    def images(self, items: list[Example]) -> Batch:
        """A row for the image of each item, and a last row for the absent image."""

    def texts(self, items: list[Example]) -> Batch:
        """A row for the text of each item, and a last row for the absent text; and `last_token`."""


class RawInputs:
    """Pixels and tokens."""

    def __init__(self, preprocessor: Preprocessor) -> None:
        self._preprocessor = preprocessor

    def images(self, items: list[Example]) -> Batch:
        """`pixel_values` (I + 1, 3, S, S)."""
        return {"pixel_values": torch.stack([*map(self.image, items), self._preprocessor.image(None)])}

    def texts(self, items: list[Example]) -> Batch:
        """`input_ids` (T + 1, L) and `last_token` (T + 1,)."""
        return self._preprocessor.texts([*(item.text for item in items), None])._asdict()

    def image(self, item: Example) -> Tensor:
        """`pixel_values` (3, S, S) of the image of an item. Raises DataError, which names its row and file."""
        with naming_row(item.row):
            return self._preprocessor.image(item.image)


class Collator:
    """Makes the arguments of `MissingModalityClassifier.forward` from items, with `labels`.

    Of a retrieval task, each item is a row of its own; `PairCollator` makes rows of queries and targets.
    """

    def __init__(self, inputs: Inputs, labels: tuple[str, ...], problem: Problem) -> None:
        self.inputs = inputs
        self._labels = labels
        self._problem = problem

    def __call__(self, items: list[Example]) -> dict[str, Any]:
        # labels first: the Trainer reads the batch size from the first tensor
        return {"labels": self.targets(items), **self.rows(items)}

    def rows(self, items: list[Example]) -> dict[str, Any]:
        """The arguments without `labels`."""
        has_image = torch.tensor([item.image is not None for item in items])
        has_text = torch.tensor([item.text is not None for item in items])
        return {
            "image_row": _rows(has_image),
            "text_row": _rows(has_text),
            **self.inputs.images([item for item in items if item.image is not None]),
            **self.inputs.texts([item for item in items if item.text is not None]),
        }

    def targets(self, items: list[Example]) -> Tensor:
        """Class indices (B,), or 0/1 (B, C) floats for multi-label; for retrieval content numbers (B,)."""
        return targets_of(items, self._labels, self._problem)


class PairCollator(Collator):
    """Makes the arguments of `MissingModalityRetriever.forward`: the rows of the queries, then those of the targets."""

    def rows(self, items: list[Example]) -> dict[str, Any]:
        """The arguments without `labels`."""
        return super().rows([*items, *(item.target for item in items if item.target is not None)])


def content_number(item: Example) -> int:
    """An int64 that is equal for queries of equal targets, and for such a target itself."""
    return int.from_bytes(digest_of(item.target or item)[:8], "little", signed=True)


def targets_of(items: Sequence[Example], labels: Sequence[str], problem: Problem) -> Tensor:
    """Class indices (n,), or 0/1 (n, C) floats for multi-label; for retrieval content numbers (n,)."""
    if problem is Problem.RETRIEVAL:
        return torch.tensor([content_number(item) for item in items], dtype=torch.int64)
    index = {label: number for number, label in enumerate(labels)}
    if problem is Problem.SINGLE_LABEL:
        return torch.tensor([index[item.labels[0]] for item in items])
    targets = torch.zeros(len(items), len(labels))
    for row, item in enumerate(items):
        targets[row, [index[label] for label in item.labels]] = 1.0
    return targets


def _rows(present: Tensor) -> Tensor:
    """Rows 0, 1, 2 ... for present inputs, and the next row for all absent ones."""
    return torch.where(present, present.cumsum(0) - 1, present.sum())
