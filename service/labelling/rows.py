"""Rows of a data set: what of them is an item, and the columns of its answer; for every command that labels many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, PositiveInt

from model_store.items.cells import CellError, NoFileError, TooLargeError, image_of, load_image
from model_store.items.rows import Row
from service.api.answers import Answer
from service.api.item import Item
from service.api.validation import parse_item
from service.errors import Code, ServiceError
from service.settings import Settings

COLUMNS = (
    "predicted_label",
    "predicted_score",
    "selected_labels",
    "top_labels",
    "top_scores",
    "modalities",
    "error",
    "detail",
)


_IMAGE_CODES = {CellError: Code.BAD_VALUE, NoFileError: Code.NOT_FOUND, TooLargeError: Code.BODY_TOO_LARGE}


class DataSetError(Exception):
    """A data set that cannot be labelled as asked, or not further; the message is for the person who asked for it."""


class Limits(BaseModel):
    """The settings of the service that decide which rows are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_body_bytes: PositiveInt
    max_image_pixels: PositiveInt
    max_text_bytes: PositiveInt

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those that the settings say."""
        return cls(**settings.model_dump(include=set(cls.model_fields)))


def choose_columns(names: Sequence[str], image: str | None, text: str | None) -> tuple[str | None, str | None]:
    """The columns of image and text: those asked for, else `image` and `text` where they are. Raises DataSetError."""
    for asked in (image, text):
        if asked is not None and asked not in names:
            raise DataSetError(f"the input has no column {asked}; it has {', '.join(names)}")
    found_image = image or ("image" if "image" in names else None)
    found_text = text or ("text" if "text" in names else None)
    if found_image is None and found_text is None:
        message = "the input has neither a column image nor text; name one with --image-column or --text-column"
        raise DataSetError(f"{message}; it has {', '.join(names)}")
    return found_image, found_text


def check_kept(names: Sequence[str], keep: Sequence[str]) -> None:
    """Refuse to keep what is not there, or what the answers' columns are named. Raises DataSetError."""
    if missing := [name for name in keep if name not in names]:
        raise DataSetError(f"the input has no column {missing[0]} to keep; it has {', '.join(names)}")
    if taken := [name for name in keep if name in COLUMNS]:
        raise DataSetError(f"the output's own {taken[0]} would stand beside the input's; name the others with --keep")


def named_columns(keep: str | None) -> tuple[str, ...] | None:
    """The names in what a person gave for --keep; None for all."""
    return None if keep is None else tuple(name for name in keep.split(",") if name)


def choose_task(asked: str | None, there: Sequence[str], place: object) -> str:
    """The task asked for, else the only one that is there. Raises DataSetError, which names those there are."""
    has = f"{place} has {', '.join(there) or 'none'}"
    if asked is None and len(there) == 1:
        return there[0]
    if asked is None:
        raise DataSetError(f"name a task with --task; {has}")
    if asked not in there:
        raise DataSetError(f"there is no task {asked}; {has}")
    return asked


def items_of(
    rows: Iterable[Row], image_column: str | None, text_column: str | None, folder: Path, limits: Limits
) -> list[Item | ServiceError]:
    """Each row's item, or why it is none, as `POST /classify` would see it."""

    def cell(row: Row, column: str | None) -> object:
        return None if column is None else row[column]

    return [item_of(cell(row, image_column), cell(row, text_column), folder, limits) for row in rows]


def item_of(image: object, text: object, folder: Path, limits: Limits) -> Item | ServiceError:
    """A row's item, or why it is none, as `POST /classify` would see it.

    Args:
        image: an encoded picture, a path relative to `folder`, a dict of `bytes` and `path`, or nothing.
    """
    try:
        picture = image_of(image, folder)
        encoded = None if picture is None else load_image(picture, limits.max_body_bytes)
    except CellError as error:
        return ServiceError(_IMAGE_CODES[type(error)], f"The image {error}.")
    return parse_item({"image": encoded, "text": text}, limits.max_text_bytes)


def answer_row(answer: Answer | ServiceError, top_k: int) -> dict[str, object]:
    """The answer's columns of one row, from an answer with every label."""
    if isinstance(answer, ServiceError):
        return {**dict.fromkeys(COLUMNS), "error": answer.code.value, "detail": answer.detail}
    best = answer.labels[:top_k]
    return {
        "predicted_label": best[0].label,
        "predicted_score": best[0].score,
        "selected_labels": [label.label for label in answer.labels if label.selected],
        "top_labels": [label.label for label in best],
        "top_scores": [label.score for label in best],
        "modalities": answer.modalities.model_dump(),
        "error": None,
        "detail": None,
    }
