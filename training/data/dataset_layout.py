"""The rows of a published data set by split, and the JSON files that list them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_store.items.rows import Row
from training.data.tables import listed
from training.errors import DataError

SPLIT_NAMES = {"train": ("train",), "validation": ("val", "dev"), "test": ("test",)}  # our names: the authors' names


@dataclass(frozen=True)
class Layout:
    """The rows of each split of a data set; rows of one image share a `group`."""

    splits: dict[str, list[Row]]
    folder: Path  # that image paths start from
    notes: tuple[str, ...] = ()


def refuse(source: Path, faults: Sequence[str], cure: str) -> None:
    """Raise DataError with the first ten faults and the cure, unless the faults are empty."""
    if faults:
        raise DataError(f"{source} has {len(faults):,} faults:\n{listed(faults)}\n{cure}")


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ValueError, whose message does not name the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ValueError("is missing") from error
    except (OSError, RecursionError, ValueError) as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


def json_objects(root: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Several JSON files of a data set. Raises DataError, which names each missing or broken file."""
    objects, faults = [], []
    for name in names:
        try:
            objects.append(json_object(root / name))
        except ValueError as error:
            faults.append(f"{name} {error}")
    refuse(root, faults, "fetch these files again, or set data.root to the folder that holds them")
    return objects


def splits_of(root: Path, listing: dict[str, Any]) -> dict[str, list[str]]:
    """The names that split.json gives for train, validation and test. Raises DataError."""
    splits, faults = {}, []
    for split, keys in SPLIT_NAMES.items():
        names = next((listing[key] for key in keys if key in listing), None)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            faults.append(f"split.json has no list {' or '.join(keys)}")
        else:
            splits[split] = names
    refuse(root, faults, "fetch split.json again")
    return splits
