"""Rows of a data set as items: image, text and labels, or query and target, each checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from model_store import ImagePreprocessing, Problem
from model_store.items.cells import CellError, image_of, is_missing
from model_store.items.invisible import unicode_fault
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
    """One row: an encoded image or its path, a text, and its labels. Either modality may be None.

    Of a retrieval task, it is a query with its target, and neither has labels.
    """

    row: int  # counted from 1, header not counted
    image: bytes | Path | None
    text: str | None
    labels: tuple[str, ...]
    group: int | None = None  # number of the image in the split, for data that lists images with several texts
    picture: bytes | None = None  # SHA-256 of the encoded image; equal pictures are one, wherever they are
    target: Example | None = None

    @property
    def sides(self) -> tuple[Example, ...]:
        """The item itself and, of a retrieval task, its target."""
        return (self,) if self.target is None else (self, self.target)


def content_of(picture: bytes, text: str | None, labels: Iterable[str]) -> bytes:
    """The parts of an item for a digest, each after its length, so that no two items have the same bytes."""
    parts = (picture, (text or "").encode(), "\0".join(labels).encode())
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def digest_of(item: Example) -> bytes:
    """SHA-256 over picture, text and labels, and over those of its target."""
    sides = (content_of(side.picture or b"", side.text, side.labels) for side in item.sides)
    return hashlib.sha256(b"".join(sides)).digest()


def item_from_row(number: int, row: Row, folder: Path, config: TaskConfig) -> Example | None:
    """Check one row; None if it has no label in a task of one label. Raises DataError with the column and the cure."""
    if config.problem is Problem.RETRIEVAL:
        query = _item(number, row, "image", "text", (), folder, config.data)
        return replace(query, target=_item(number, row, "target_image", "target_text", (), folder, config.data))
    labels = _labels(row["label"], config)
    if not labels and config.problem is Problem.SINGLE_LABEL:
        return None
    return _item(number, row, "image", "text", labels, folder, config.data)


def _item(
    number: int, row: Row, image_field: str, text_field: str, labels: tuple[str, ...], folder: Path, data: DataConfig
) -> Example:
    """The item of two fields of a row. Raises DataError."""
    image_column, text_column = getattr(data, image_field), getattr(data, text_field)
    (image, picture), text = _image(row[image_field], folder, data, image_column or image_field), row[text_field]
    if is_missing(text):
        text = None
    elif not isinstance(text, str):
        raise DataError(f"column {text_column} holds {type(text).__name__}, not text; set data.{text_field}")
    if image is None and text is None:
        columns = " nor ".join(filter(None, (image_column, text_column)))
        is_one = image_column is None or text_column is None
        empty = f"{columns} is empty; fill it in" if is_one else f"neither {columns} is given; fill one in"
        raise EmptyItemError(f"{empty} or remove the row")
    if text is not None and (fault := unicode_fault(text)):
        raise DataError(f"the text {fault}; mend it, or write the file again in UTF-8")
    for label in labels:
        if fault := unicode_fault(label):
            raise DataError(f"the label {label!a} {fault}; mend it, or rename its folder")
    return Example(number, image, text, labels, row.get("group"), picture)


def _image(cell: object, folder: Path, data: DataConfig, column: str) -> tuple[bytes | Path | None, bytes | None]:
    """The image of a cell, after it was decoded as training decodes it, and its SHA-256. Raises DataError."""
    path = cell.get("path") if isinstance(cell, dict) else cell
    name, start = column, ""
    if isinstance(path, str):
        name, start = f"{name} {path[:80]!r}", f" (paths start from {folder})"
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
