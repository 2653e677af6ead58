"""Rows of a data set as items: image, text and labels, each checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from model_store import ImagePreprocessing, Problem
from model_store.items.cells import CellError, image_of, is_missing
from model_store.items.labels import label_of, labels_of
from model_store.items.pictures import PictureError, decode
from model_store.items.rows import Row
from model_store.messages import describe_os_error
from training.config import DataConfig, TaskConfig
from training.errors import DataError, EmptyItemError, PictureFaultError, picture_fault

# CLIP's usual preprocessing, because the backbone is not loaded yet. Like training, it refuses very elongated pictures.
_PREPROCESSING = ImagePreprocessing(
    shortest_edge=224, crop=(224, 224), resample="bicubic", mean=(0, 0, 0), std=(1, 1, 1)
)


@dataclass(frozen=True)
class Example:
    """One row: an encoded image or its path, a text, and its labels. Either modality may be None."""

    row: int  # counted from 1, header not counted
    image: bytes | Path | None
    text: str | None
    labels: tuple[str, ...]
    group: int | None = None  # number of the image in the split, for data that lists images with several texts
    picture: bytes | None = None  # SHA-256 of the encoded image; equal pictures are one, wherever they are


def content_of(picture: bytes, text: str | None, labels: Iterable[str]) -> bytes:
    """The parts of an item for a digest, each after its length, so that no two items have the same bytes."""
    parts = (picture, (text or "").encode(), "\0".join(labels).encode())
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def item_from_row(number: int, row: Row, folder: Path, config: TaskConfig) -> Example | None:
    """Check one row; None if it has no label in a task of one label. Raises DataError with the column and the cure."""
    data = config.data
    labels = _labels(row["label"], config)
    if not labels and config.problem is Problem.SINGLE_LABEL:
        return None
    (image, picture), text = _image(row["image"], folder, data), row["text"]
    if is_missing(text):
        text = None
    elif not isinstance(text, str):
        raise DataError(f"column {data.text} holds {type(text).__name__}, not text; set data.text")
    if image is None and text is None:
        columns = " nor ".join(filter(None, (data.image, data.text)))
        is_one = data.image is None or data.text is None
        empty = f"{columns} is empty; fill it in" if is_one else f"neither {columns} is given; fill one in"
        raise EmptyItemError(f"{empty} or remove the row")
    try:
        "".join([text or "", *labels]).encode()
    except UnicodeEncodeError as error:
        raise DataError("the text or a label has half of a surrogate pair, which is no character; mend it") from error
    return Example(number, image, text, labels, row.get("group"), picture)


def _image(cell: object, folder: Path, data: DataConfig) -> tuple[bytes | Path | None, bytes | None]:
    """The image of a cell, after it was decoded as training decodes it, and its SHA-256. Raises DataError."""
    path = cell.get("path") if isinstance(cell, dict) else cell
    name, start = data.image or "image", ""
    if isinstance(path, str):
        name, start = f"{name} {path.strip()[:80]!r}", f" (paths start from {folder})"
    try:
        image = image_of(cell, folder)
        if image is None:
            return None, None
        content = image.read_bytes() if isinstance(image, Path) else image
        decode(content, preprocessing=_PREPROCESSING)
        return image, hashlib.sha256(content).digest()
    except CellError as error:
        raise PictureFaultError(f"{name} {error}{start}", str(error).partition(";")[0]) from error
    except PictureError as error:
        cure = "replace the file" if data.format else "replace it, or leave the cell empty"
        raise picture_fault(name, error, cure) from error
    except OSError as error:
        raise PictureFaultError(f"{name} cannot be read: {describe_os_error(error)}", "cannot be read") from error


def _labels(cell: object, config: TaskConfig) -> tuple[str, ...]:
    """The labels of a cell; at most one for a single-label task. Raises DataError."""
    try:
        if config.problem is not Problem.SINGLE_LABEL:
            return labels_of(cell)
        label = label_of(cell)
    except ValueError as error:
        cure = "set data.label" + (", or problem: multi_label" if isinstance(cell, list) else "")
        raise DataError(f"column {config.data.label} {error}; {cure}") from error
    return () if label is None else (label,)
