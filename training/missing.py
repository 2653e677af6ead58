"""Simulated missingness: which modality each item of a split lacks (METHOD: protocol)."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store import Pattern
from training.config import MissingConfig
from training.data import Split


class Lacks(IntEnum):
    """Entry of a missing table, numbered as in the authors' files."""

    NOTHING = 0
    TEXT = 1
    IMAGE = 2


PATTERN_OF = {Lacks.NOTHING: Pattern.BOTH, Lacks.TEXT: Pattern.IMAGE, Lacks.IMAGE: Pattern.TEXT}
Table = NDArray[np.int8]  # (items,) of Lacks


def natural_table(split: Split) -> Table:
    """What the items lack of themselves."""
    lacks = [Lacks.IMAGE if item.image is None else Lacks.TEXT if item.text is None else 0 for item in split.items]
    return np.array(lacks, dtype=np.int8)


def draw_table(natural: Table, config: MissingConfig) -> Table:
    """Remove one modality from complete items until `int(N * ratio)` items are incomplete.

    Items that are naturally incomplete count towards the ratio and lose nothing more, so no item loses both. Of the
    items drawn for type `both`, `int(drawn * both_ratio)` lose their image and the rest their text.
    """
    rng = np.random.default_rng(config.seed)
    complete = np.flatnonzero(natural == Lacks.NOTHING)
    incomplete = len(natural) - len(complete)
    count = max(int(len(natural) * config.ratio) - incomplete, 0)
    drawn = rng.permutation(complete)[:count]
    without_image = {"image": count, "text": 0, "both": int(count * config.both_ratio)}[config.type]
    table = natural.copy()
    table[drawn[:without_image]] = Lacks.IMAGE
    table[drawn[without_image:]] = Lacks.TEXT
    return table


def table_for(split: Split, task: str, config: MissingConfig, folder: Path | None = None) -> Table:
    """The table of a split, saved in `folder` under a name that says everything it was drawn from."""
    table = draw_table(natural_table(split), config)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        setting = f"{config.type}_ratio{config.ratio:g}_both{config.both_ratio:g}_seed{config.seed}"
        np.save(folder / f"{task}_{split.name}_missing_{setting}.npy", table)
    return table


def pattern_shares(table: Table) -> dict[Pattern, float]:
    """Share of the items with each presence pattern."""
    return {pattern: float(np.mean(table == lacks)) for lacks, pattern in PATTERN_OF.items()}
