"""The authors' Arrow files: one row for each image, with its texts and the numbers of its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
from rich.progress import track

from model_store.items.cells import is_missing
from model_store.items.rows import Row
from training.config import TaskConfig
from training.data.dataset_layout import SPLIT_NAMES, Layout, json_objects, refuse
from training.errors import DataError

MASKS = "missing_tables"  # the authors' folder of missing tables, beside the Arrow files


def read_arrow(root: Path, config: TaskConfig) -> Layout:
    """One row for each text of an image; these rows share the bytes of the image.

    Raises:
        DataError: a file is missing or broken, lacks a column, or has a label number without a name.
    """
    labels = _labels_by_number(root, config)
    return Layout({split: _rows(_file(root, split), labels) for split in SPLIT_NAMES}, root)


def masks_beside(root: Path) -> list[Path]:
    """The authors' missing tables beside their Arrow files."""
    return sorted((root / MASKS).glob("*.pt"))


def _labels_by_number(root: Path, config: TaskConfig) -> tuple[str, ...]:
    """The names of labels 0, 1, ...: in the order of class_idx.json if it exists, else of the task's labels."""
    if (root / "class_idx.json").is_file():
        (numbers,) = json_objects(root, ["class_idx.json"])
        if sorted(numbers.values(), key=str) != sorted(range(len(numbers)), key=str):
            raise DataError(f"{root / 'class_idx.json'} must number its classes 0, 1, ... without a gap")
        return tuple(sorted(numbers, key=numbers.__getitem__))
    if config.labels is None:
        raise DataError(f"the Arrow files in {root} number their labels; list these under `labels`, in that order")
    return config.labels


def _file(root: Path, split: str) -> Path:
    """The one file of a split, such as val.arrow or mmimdb_dev.arrow. Raises DataError."""
    names = [f"{name}.arrow" for name in SPLIT_NAMES[split]]
    files = [path for name in names for pattern in (name, f"*_{name}") for path in sorted(root.glob(pattern))]
    if len(files) != 1:
        needed = f"{' or '.join(names)} for {split} (also with a prefix, as mmimdb_{names[0]})"
        existing = ", ".join(path.name for path in files) or "none"
        raise DataError(f"{root} must hold one file {needed}; it holds {existing}. Mend data.root or the file's name")
    return files[0]


def _rows(path: Path, labels: tuple[str, ...]) -> list[Row]:
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
            texts = next((name for name in ("plots", "text") if name in table.column_names), "text")
            missing = {"image", texts, "label"} - set(table.column_names)
            if missing:
                raise DataError(f"{path} has no column {', '.join(sorted(missing))}; it has {table.column_names}")
            columns = [table[name].to_pylist() for name in ("image", texts, "label")]
    except (pa.ArrowException, OSError, SystemError, ValueError) as error:  # of damaged files and of texts not in UTF-8
        raise DataError(f"{path} cannot be read as an Arrow IPC file ({error}); copy it again") from error
    rows: list[Row] = []
    faults = []
    for group, (image, texts_of_image, number) in enumerate(
        track(zip(*columns, strict=True), f"reading {path.name}", total=len(table))
    ):
        try:
            label = _named(number, labels)
        except ValueError as error:
            faults.append(f"row {group + 1} {error}")
            continue
        texts_of_image = texts_of_image if isinstance(texts_of_image, list) else [texts_of_image]
        rows += [{"image": image, "text": text, "label": label, "group": group} for text in texts_of_image or [None]]
    refuse(path, faults, "list all labels under `labels`, in the order of the numbers")
    return rows


def _named(number: Any, labels: tuple[str, ...]) -> str | list[str | None] | None:  # noqa: ANN401 - any value of a cell
    """The label of a number, or the labels of a list, which holds a 0 or 1 for every label, or label numbers."""
    if not isinstance(number, list):
        return _label(number, labels)
    if len(number) == len(labels) and all(each in (0, 1) for each in number):
        return [label for label, present in zip(labels, number, strict=True) if present]
    names = [_label(each, labels) for each in number]
    if len(number) == len(labels) and None in names:
        raise ValueError(f"has labels {number!r}, which are neither label numbers nor a 0 or 1 for every label")
    return names


def _label(number: object, labels: tuple[str, ...]) -> str | None:
    """The label of a number; None for an empty cell and a number below 0."""
    if is_missing(number):
        return None
    if not isinstance(number, int) or number >= len(labels):
        raise ValueError(f"has label {number!r}; the task has labels 0 to {len(labels) - 1}")
    return labels[number] if number >= 0 else None
