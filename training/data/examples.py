"""One row of a data set as an item: an image, a text, labels, each checked."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from model_store import Problem
from model_store.items.cells import CellError, image_of
from model_store.items.labels import label_of, labels_of
from model_store.items.missing import is_missing
from model_store.items.rows import Row
from training.config import TaskConfig
from training.errors import DataError


@dataclass(frozen=True)
class Example:
    """One row: an encoded image or its path, a text, and its labels. Either modality may be None."""

    row: int  # counted from 1, header not counted
    image: bytes | Path | None
    text: str | None
    labels: tuple[str, ...]
    group: int | None = None  # which image of the split; items that share one lose it together


def item_from_row(number: int, row: Row, folder: Path, config: TaskConfig) -> Example:
    """Check one row. Raises DataError, which names the column and the cure."""
    data = config.data
    cure = "replace the file" if data.format else "save it as JPEG, PNG or WebP, or leave the cell empty"
    image, text = _image(row["image"], folder, data.image or "image", cure), row["text"]
    if is_missing(text):
        text = None
    elif not isinstance(text, str):
        raise DataError(f"column {data.text} holds {type(text).__name__}, not text; set data.text")
    labels = _labels(row["label"], config)
    if image is None and text is None:
        columns = " nor ".join(filter(None, (data.image, data.text)))
        raise DataError(f"neither {columns} is given; fill one in or remove the row")
    _check_unicode(text or "", *labels)
    return Example(number, image, text, labels, row.get("group"))


def _image(cell: object, folder: Path, column: str, cure: str) -> bytes | Path | None:
    path = cell.get("path") if isinstance(cell, dict) else cell
    name = f"{column} {path.strip()[:80]!r}" if isinstance(path, str) else column
    try:
        image = image_of(cell, folder)
    except CellError as error:
        start = f" (paths start from {folder})" if isinstance(path, str) else ""
        raise DataError(f"{name} {error}{start}") from error
    if image is not None:
        _decode(BytesIO(image) if isinstance(image, bytes) else image, name, cure)
    return image


def _decode(source: Path | BytesIO, name: str, cure: str) -> None:
    """Raise DataError unless the whole picture can be decoded (of a JPEG, at a reduced size, which is quicker)."""
    try:
        with Image.open(source) as image:
            image.draft("RGB", (64, 64))
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be read as an image; {cure}") from error


def _labels(cell: object, config: TaskConfig) -> tuple[str, ...]:
    if config.problem is not Problem.SINGLE_LABEL:
        return labels_of(cell)
    label = None if isinstance(cell, list) else label_of(cell)
    if label is None:
        column = config.data.label
        raise DataError(f"column {column} holds no single label; fill it in, remove the row, or use multi_label")
    return (label,)


def _check_unicode(*texts: str) -> None:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise DataError("the text or a label has half of a surrogate pair, which is no character; mend it") from error
