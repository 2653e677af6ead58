"""Validation items that choose nothing: they are set apart to calibrate label sets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.config import TaskConfig
from training.data.held_out import draw_held_out
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

    A validation split of fewer than 100 items is not divided.
    """
    validation, share = data.validation, config.coverage.share
    if share == 0 or len(validation.items) < LEAST_ITEMS:
        return Divided(data, tables)
    split_of = draw_held_out(validation.items, {"calibration": share}, config.data.seed)
    is_apart = np.array([item.row in split_of for item in validation.items])
    halves = [
        replace(
            validation, name=name, items=[item for item, each in zip(validation.items, chosen, strict=True) if each]
        )
        for name, chosen in (("validation", ~is_apart), ("calibration", is_apart))
    ]
    if not all(half.items for half in halves):
        return Divided(data, tables)
    table = tables["validation"]
    return Divided(
        replace(data, validation=halves[0]), {**tables, "validation": table[~is_apart]}, halves[1], table[is_apart]
    )
