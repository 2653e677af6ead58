"""Rows of a data set: what of them is an item, and the columns of its answer; for every command that labels many."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, PositiveInt

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


def item_of(image: object, text: object, folder: Path, limits: Limits) -> Item | ServiceError:
    """A row's item, or why it is none, as `POST /classify` would see it.

    Args:
        image: an encoded picture, a path relative to `folder`, a dict of `bytes` and `path`, or nothing.
    """
    try:
        fields = {"image": _image_bytes(image, folder, limits.max_body_bytes), "text": text}
    except ServiceError as error:
        return error
    return parse_item(fields, limits.max_text_bytes)


def _image_bytes(cell: object, folder: Path, max_bytes: int) -> object:
    if isinstance(cell, dict):  # as Hugging Face's data sets hold an image
        cell = cell.get("bytes") or cell.get("path")
    too_large = ServiceError(Code.BODY_TOO_LARGE, f"An image may have {max_bytes} bytes.")
    if isinstance(cell, str) and (path := cell.strip()):
        try:
            status = (folder / path).stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe would never end
                raise ServiceError(Code.NOT_FOUND, "The image's path is not a file's.")
            if status.st_size > max_bytes:
                raise too_large
            return (folder / path).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a null character
            raise ServiceError(Code.NOT_FOUND, "The image's path leads to no file that can be read.") from error
    if isinstance(cell, bytes) and len(cell) > max_bytes:
        raise too_large
    return None if isinstance(cell, str) else cell


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
