"""Simulated missingness: the modality that each item of a split lacks (METHOD: protocol)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from enum import IntEnum
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_store import Pattern
from model_store.atomic_file import write_atomically
from training.config import MissingConfig, TaskConfig
from training.data.examples import Example
from training.data.mask_files import check_name, mask_name, read_mask
from training.data.splits import Split, TaskData
from training.errors import DataError, RunError


class Lacks(IntEnum):
    """Entry of a missing table, numbered as in the authors' files."""

    NOTHING = 0
    TEXT = 1
    IMAGE = 2


PATTERN_OF = {Lacks.NOTHING: Pattern.BOTH, Lacks.TEXT: Pattern.IMAGE, Lacks.IMAGE: Pattern.TEXT}
Table = NDArray[np.int8]  # (items,) of Lacks
Numbers = NDArray[np.intp]  # (items,): the number of each item's image
_ROUNDING = 0.005  # tolerance for the ratio of a table that was read


def masked(item: Example, lacks: int) -> Example:
    """The item without the modality that an entry of a missing table takes away."""
    image = None if lacks == Lacks.IMAGE else item.image
    text = None if lacks == Lacks.TEXT else item.text
    return replace(item, image=image, text=text)


def natural_table(split: Split) -> Table:
    """The modality that each item lacks in the data itself."""
    lacks = [Lacks.IMAGE if item.image is None else Lacks.TEXT if item.text is None else 0 for item in split.items]
    return np.array(lacks, dtype=np.int8)


def draw_table(natural: Table, config: MissingConfig) -> Table:
    """Remove one modality from complete items until `int(N * ratio)` items are incomplete.

    Items that are naturally incomplete count towards the ratio and keep their modality. With type `both`,
    `int(drawn * both_ratio)` of the drawn items lose their image and the others their text.
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
    """The table of a split, drawn or read. Items that share a picture lose the same modality.

    Args:
        folder: for a copy of the table, with one entry for each picture.

    Raises:
        DataError: the configured table does not fit this split and setting.
        RunError: `folder` holds another table of the same name.
    """
    natural, image_of = natural_table(split), picture_numbers(split)
    if config.table is None:
        of_images = _of_images(natural, image_of)
        removed = np.where(of_images == Lacks.NOTHING, draw_table(of_images, config), Lacks.NOTHING)[image_of]
    else:
        image_of, entries = _read(split, natural, (image_of, _listed_numbers(split)), config)
        removed = entries[image_of]
        _check_leaves_one(split, natural, removed, config)
    table = np.where(natural == Lacks.NOTHING, removed, natural).astype(np.int8)
    if folder is not None:
        of_images = np.full(image_of.max() + 1, max(Lacks), dtype=np.int8)
        np.minimum.at(of_images, image_of, table)  # the modality that all items of an image lack
        _save(of_images, folder / mask_name(task, split.name, config))
    return table


def draw_tables(config: TaskConfig, data: TaskData, folder: Path | None = None) -> dict[str, Table]:
    """The missing table of each split, saved in `folder` if one is given."""
    return {
        name: table_for(split, config.task, getattr(config.missing, name), folder)
        for name, split in data.splits().items()
    }


def picture_numbers(split: Split) -> Numbers:
    """(items,): the number of each item's picture. Equal pictures are one, whatever file or row they are in."""
    return _numbered(
        ("listed", listed) if item.picture is None else item.picture
        for item, listed in zip(split.items, _listed_numbers(split).tolist(), strict=True)
    )


def _listed_numbers(split: Split) -> Numbers:
    """The number of each item's image as the data lists images: the image of several texts, or the row."""
    return _numbered(("row", row) if item.group is None else item.group for row, item in enumerate(split.items))


def _numbered(keys: Iterable[Hashable]) -> Numbers:
    """Equal keys as equal numbers, counted from 0 in the order of the keys."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.intp)


def _of_images(natural: Table, image_of: Numbers) -> Table:
    """(images,): an image is incomplete if any of its items is."""
    of_images = np.zeros(image_of.max() + 1, dtype=np.int8)
    np.maximum.at(of_images, image_of, natural)
    return of_images


def _read(
    split: Split, item_natural: Table, numberings: Sequence[Numbers], config: MissingConfig
) -> tuple[Numbers, Table]:
    """The configured table (images,), and the numbering of images that it follows. Raises DataError.

    Our tables have an entry for each picture. The authors' have one for each image that the data lists, even if two
    of these are equal.
    """
    path, field = Path(config.table or ""), f"missing.{split.name}"
    check_name(path, split.name, config)
    entries = read_mask(path, [int(numbers.max()) + 1 for numbers in numberings])
    image_of = next(numbers for numbers in numberings if numbers.max() + 1 == len(entries))
    natural = _of_images(item_natural, image_of)
    share, incomplete = float(np.mean(entries != Lacks.NOTHING)), float(np.mean((entries != 0) | (natural != 0)))
    highest, rounding = max(config.ratio, float(np.mean(natural != Lacks.NOTHING))), _ROUNDING + 1 / len(natural)
    if incomplete < config.ratio - rounding or share > highest + rounding:
        cure = f"set {field}.ratio to {share:.3g}, or name another table"
        raise DataError(
            f"{path} removes a modality of {share:.1%} of the images, {field}.ratio is {config.ratio:g}; {cure}"
        )
    other = {"text": Lacks.IMAGE, "image": Lacks.TEXT}.get(config.type)
    if other is not None and bool(((entries == other) & (natural != other)).any()):
        cure = f"set {field}.type, or name another table"
        raise DataError(f"{path} also removes {other.name.lower()}s, but {field}.type is {config.type}; {cure}")
    return image_of, entries


def _check_leaves_one(split: Split, natural: Table, removed: Table, config: MissingConfig) -> None:
    """Raise DataError when a table removes the only modality of an item."""
    emptied = np.flatnonzero((natural != Lacks.NOTHING) & (removed != Lacks.NOTHING) & (removed != natural))
    if len(emptied):
        lost, lacked = ("image", "text") if removed[emptied[0]] == Lacks.IMAGE else ("text", "image")
        raise DataError(
            f"{config.table} removes the {lost} of row {split.items[emptied[0]].row} of {split.source} ({split.name}), "
            f"which has no {lacked} ({len(emptied)} such rows); name a table that was drawn for this data"
        )


def _save(entries: Table, path: Path) -> None:
    content = BytesIO()
    np.save(content, entries)
    if path.is_file():
        if path.read_bytes() != content.getvalue():
            raise RunError(f"{path} holds another table than this data and configuration give; choose another --output")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())


def pattern_shares(table: Table) -> dict[str, float]:
    """Share of the items with each presence pattern."""
    return {pattern.value: float(np.mean(table == lacks)) for lacks, pattern in PATTERN_OF.items()}
