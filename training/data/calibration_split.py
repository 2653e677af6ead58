"""Validation items that choose nothing: they are set apart to calibrate label sets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model_store import Problem
from training.config import TaskConfig
from training.data.copies import groups_of_copies
from training.data.held_out import groups_by_label
from training.data.missing import Table
from training.data.splits import Split, TaskData

LEAST_ITEMS = 100  # of a validation split that is divided; the halves of a smaller one would be of little use


@dataclass(frozen=True)
class Divided:
    """Data whose validation split has only the items that choose the model, and the calibration items.

    `tables` are the missing tables of the three splits. `calibration` is None if no items are set apart.
    """

    data: TaskData
    tables: dict[str, Table]
    calibration: Split | None = None
    calibration_table: Table | None = None


def set_apart(config: TaskConfig, data: TaskData, tables: dict[str, Table]) -> Divided:
    """Divide the validation split by `coverage.share`, equal each time. Copies of an item stay together.

    A validation split of fewer than 100 items, copies of an item counted once, is not divided.
    """
    validation, table = data.validation, tables["validation"]
    apart = _is_apart(config, validation)
    if not apart.any():
        return Divided(data, tables)
    learning = replace(data, validation=_part(validation, ~apart))
    calibration = replace(_part(validation, apart), name="calibration")
    return Divided(learning, {**tables, "validation": table[~apart]}, calibration, table[apart])


def learning_split(config: TaskConfig, validation: Split) -> Split:
    """The items of a validation split that `set_apart` leaves in it: they choose the model."""
    return _part(validation, ~_is_apart(config, validation))


def different_items(split: Split) -> int:
    """The number of items, copies of an item counted once."""
    return len(groups_of_copies(split.items))


def _is_apart(config: TaskConfig, validation: Split) -> NDArray[np.bool_]:
    """(items,): a systematic sample of the groups of copies, which are sorted by label and at random within a label.

    Each group has the same chance, also that of a label with few items: calibration items must be as test items are.
    """
    if config.problem is Problem.RETRIEVAL:  # it has no labels, so no label sets
        return np.zeros(len(validation.items), dtype=bool)
    share, count, rng = config.coverage.share, different_items(validation), np.random.default_rng(config.data.seed)
    if share == 0 or count < LEAST_ITEMS:
        return np.zeros(len(validation.items), dtype=bool)
    by_label = groups_by_label(validation.items).values()
    groups = [groups[number] for groups in by_label for number in rng.permutation(len(groups))]
    chosen = min(max(round(share * count), 1), count - 1)
    is_chosen = np.diff(np.floor(np.arange(count + 1) * chosen / count + rng.uniform())) > 0
    rows = {item.row for group, each in zip(groups, is_chosen, strict=True) if each for item in group}
    return np.array([item.row in rows for item in validation.items])


def _part(split: Split, chosen: NDArray[np.bool_]) -> Split:
    return replace(split, items=[item for item, each in zip(split.items, chosen, strict=True) if each])
