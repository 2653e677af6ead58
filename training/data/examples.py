"""One row of a data set as an item: an image, a text, labels, each checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_store import ImagePreprocessing, Problem
from model_store.items.picture_error import PictureError
from model_store.items.pictures import decode
from model_store.messages import describe_os_error
from training.config import TaskConfig
from training.errors import DataError, picture_fault

LABEL_SEPARATOR = "|"  # between the labels of one cell, where a file has no lists
_SMALL = ImagePreprocessing(exact_size=(64, 64), resample="nearest", mean=(0, 0, 0), std=(1, 1, 1))  # quick to make


@dataclass(frozen=True)
class Example:
    """One row: an encoded image or its path, a text, and its labels. Either modality may be None."""

    row: int  # counted from 1, header not counted
    image: bytes | Path | None
    text: str | None
    labels: tuple[str, ...]
    group: int | None = None  # which image of the split; items that share one lose it together


def item_from_row(number: int, row: dict[str, Any], folder: Path, config: TaskConfig) -> Example:
    """Check one row. Raises DataError, which names the column and the cure."""
    data = config.data
    cure = "replace the file" if data.format else "replace it, or leave the cell empty"
    image, text = _image(row["image"], folder, data.image or "image", cure), row["text"]
    if text is not None and not isinstance(text, str):
        raise DataError(f"column {data.text} holds {type(text).__name__}, not text; set data.text")
    text = text if text and text.strip() else None
    labels = _labels(row["label"], config)
    if image is None and text is None:
        columns = " nor ".join(filter(None, (data.image, data.text)))
        raise DataError(f"neither {columns} is given; fill one in or remove the row")
    return Example(number, image, text, labels, row.get("group"))


def _image(value: object, folder: Path, column: str, cure: str) -> bytes | Path | None:
    if isinstance(value, dict):  # the `datasets` form of an image
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        value = value.strip()
    if value is None or value in ("", b""):
        return None
    if isinstance(value, str):
        path, name = folder / value, f"{column} {value[:80]!r}"
        if value.startswith(("http://", "https://")):
            raise DataError(f"{name} is an address, and nothing is fetched; name a file, or leave the cell empty")
        if not _is_file(path):
            raise DataError(f"{name} does not exist in {folder}; mend the path, or leave the cell empty")
        _check_picture(path, name, cure)
        return path
    if isinstance(value, bytes):
        _check_picture(value, column, cure)
        return value
    raise DataError(f"column {column} holds {type(value).__name__}, not a path or image bytes; set data.image")


def _is_file(path: Path) -> bool:
    """Whether a file is there; a cell that cannot be a path at all is no error of its own."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _check_picture(source: bytes | Path, name: str, cure: str) -> None:
    """Decode a picture as training will, but small. Raises DataError."""
    try:
        decode(source, preprocessing=_SMALL)
    except PictureError as error:
        raise picture_fault(name, error, cure) from error
    except OSError as error:
        raise DataError(f"{name} cannot be read: {describe_os_error(error)}") from error


def _labels(value: object, config: TaskConfig) -> tuple[str, ...]:
    column = config.data.label
    if config.problem is Problem.SINGLE_LABEL:
        if value is None or isinstance(value, list) or not str(value).strip():
            raise DataError(f"column {column} holds no single label; fill it in, remove the row, or use multi_label")
        return (str(value).strip(),)
    values = value if isinstance(value, list) else str(value or "").split(LABEL_SEPARATOR)
    return tuple(dict.fromkeys(str(label).strip() for label in values if label is not None and str(label).strip()))
