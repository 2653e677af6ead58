"""Batches for the Trainer: items under a missing table, as tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from model_store import Problem
from training.data import Split
from training.errors import DataError
from training.items import Item
from training.missing import Lacks, Table
from training.preprocessing import Preprocessor


class MaskedItems(Dataset[Item]):
    """The items of a split without what the missing table takes away."""

    def __init__(self, split: Split, table: Table) -> None:
        self.split = split
        self.table = table

    def __len__(self) -> int:
        return len(self.split.items)

    def __getitem__(self, index: int) -> Item:
        item, lacks = self.split.items[index], self.table[index]
        image = None if lacks == Lacks.IMAGE else item.image
        text = None if lacks == Lacks.TEXT else item.text
        return Item(item.row, image, text, item.labels)


class Collator:
    """Items to `pixel_values` (B, 3, S, S), `input_ids` (B, L) and `labels`."""

    def __init__(self, preprocessor: Preprocessor, labels: tuple[str, ...], problem: Problem) -> None:
        self.preprocessor = preprocessor
        self._index = {label: number for number, label in enumerate(labels)}
        self._problem = problem

    def __call__(self, items: list[Item]) -> dict[str, Any]:
        return {
            "pixel_values": torch.stack([self._image(item) for item in items]),
            "input_ids": self.preprocessor.texts([item.text for item in items]),
            "labels": self.targets(items),
        }

    def targets(self, items: list[Item]) -> Tensor:
        """Class indices (B,), or 0/1 (B, C) floats for multi-label."""
        if self._problem is Problem.SINGLE_LABEL:
            return torch.tensor([self._index[item.labels[0]] for item in items])
        targets = torch.zeros(len(items), len(self._index))
        for row, item in enumerate(items):
            targets[row, [self._index[label] for label in item.labels]] = 1.0
        return targets

    def _image(self, item: Item) -> Tensor:
        try:
            return self.preprocessor.image(item.image)
        except DataError as error:
            raise DataError(f"row {item.row}: {error}") from error
