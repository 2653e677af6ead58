"""Rows of a data set: their columns, their items, and the columns of the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, PositiveInt

from model_store import Problem
from model_store.items.cells import CellError, NoFileError, TooLargeError, image_of, load_image
from model_store.items.rows import Row, column_named
from service.api.answers import Answer, Embedding
from service.api.field_names import closest_field
from service.api.item import Item, parse_item
from service.errors import Code, ServiceError
from service.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

KeptColumns: TypeAlias = "list[Row] | pa.Table"
Write: TypeAlias = Callable[[KeptColumns, Sequence[Row]], None]  # the kept columns of the next rows, and their answers
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
SET_COLUMNS = ("label_set", "review")  # only if a coverage is given
EMBEDDING_COLUMNS = ("embedding", "modalities", "error", "detail")  # of `mora-serve embed`
_IMAGE_CODES = {CellError: Code.BAD_VALUE, NoFileError: Code.NOT_FOUND, TooLargeError: Code.BODY_TOO_LARGE}


class DataSetError(Exception):
    """A data set cannot be labelled with these options. The message is for the user of the command."""


class Limits(BaseModel):
    """The settings that limit the size of an item."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_body_bytes: PositiveInt
    max_image_pixels: PositiveInt
    max_text_bytes: PositiveInt

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The limits of the settings."""
        return cls(**settings.model_dump(include=set(cls.model_fields)))


@dataclass(frozen=True)
class Columns:
    """The columns of the images and texts, and those of the output: kept ones, then the answers."""

    image: str | None
    text: str | None
    keep: tuple[str, ...]
    answers: tuple[str, ...] = COLUMNS

    def all(self) -> set[str]:
        """Every column that is read."""
        return {*self.keep, *self.cells()}

    def cells(self) -> list[str]:
        """The columns of the images and texts."""
        return [*filter(None, (self.image, self.text))]


def answer_columns(coverage: float | None) -> tuple[str, ...]:
    """The columns of the answers."""
    return COLUMNS if coverage is None else (*COLUMNS, *SET_COLUMNS)


def choose_columns(
    names: Sequence[str],
    image: str | None,
    text: str | None,
    keep: Sequence[str] | None,
    answers: tuple[str, ...] = COLUMNS,
) -> Columns:
    """The columns of the options, by default `image`, `text`, and all columns to keep; "" is no column.

    Raises DataSetError.
    """
    has = f"it has {', '.join(names)}"
    if missing := [name for name in (image, text) if name and column_named(names, name) is None]:
        raise DataSetError(f"the input has no column {missing[0]}; {has}")
    image = None if image == "" else column_named(names, image or "image")
    text = None if text == "" else column_named(names, text or "text")
    if image is None and text is None:
        message = "the input has neither a column image nor text; name one with --image-column or --text-column"
        raise DataSetError(f"{message}{_likely_columns(names)}; {has}")
    if missing := [name for name in keep or () if column_named(names, name) is None]:
        raise DataSetError(f"the input has no column {missing[0]} to keep; {has}")
    kept = names if keep is None else [column for name in keep if (column := column_named(names, name))]
    if taken := [name for name in kept if name in answers]:
        raise DataSetError(f"the output has a column {taken[0]} of its own; name the other columns with --keep")
    return Columns(image, text, tuple(kept), answers)


def _likely_columns(names: Sequence[str]) -> str:
    """The options that are probably meant, with an example for each."""
    options = {field: name for name in names if (field := closest_field(name, ("image", "text")))}
    meant = " ".join(f"--{field}-column {name}" for field, name in options.items())
    return f", such as {meant}" if meant else ""


def named_columns(keep: str | None) -> tuple[str, ...] | None:
    """The names in the value of --keep; None for all."""
    return None if keep is None else tuple(name for name in keep.split(",") if name)


def choose_task(task: str | None, tasks: Sequence[str], owner: object) -> str:
    """The task of the options, or the only task of a store or service. Raises DataSetError, which lists the tasks."""
    if task is not None and task in tasks:
        return task
    if task is None and len(tasks) == 1:
        return tasks[0]
    problem = "name a task with --task" if task is None else f"there is no task {task}"
    raise DataSetError(f"{problem}; {owner} has {', '.join(tasks) or 'none'}")


def check_problem(task: str, problem: Problem, *, embeds: bool) -> None:
    """Refuse labels of a retrieval task, and vectors of any other. Raises DataSetError."""
    if problem is Problem.RETRIEVAL and not embeds:
        raise DataSetError(f"{task} is a retrieval task, which has no labels; mora-serve embed gives its vectors")
    if embeds and problem is not Problem.RETRIEVAL:
        raise DataSetError(f"{task} has labels and no vectors; name a retrieval task, or use mora-serve classify")


def items_of(rows: Iterable[Row], columns: Columns, folder: Path, limits: Limits) -> list[Item | ServiceError]:
    """The item of each row, or the ServiceError of `POST /classify` if the row does not make an item."""
    cells = [[None if name is None else row[name] for name in (columns.image, columns.text)] for row in rows]
    return [item_of(image, text, folder, limits) for image, text in cells]


def item_of(image: object, text: object, folder: Path, limits: Limits) -> Item | ServiceError:
    """The item of two cells, or the ServiceError of `POST /classify`.

    Args:
        image: an encoded picture, a path relative to `folder`, a dict of `bytes` and `path`, or an empty cell.
    """
    try:
        picture = image_of(image, folder)
        encoded = None if picture is None else load_image(picture, limits.max_body_bytes)
    except CellError as error:
        return ServiceError(_IMAGE_CODES[type(error)], f"The image {error}.")
    return parse_item({"image": encoded, "text": text}, limits.max_text_bytes)


def answer_row(answer: Answer | ServiceError, top_k: int, columns: Sequence[str] = COLUMNS) -> dict[str, object]:
    """The columns of an answer, which has all labels, or of an error."""
    if isinstance(answer, ServiceError):
        return {**dict.fromkeys(columns), "error": answer.code.value, "detail": answer.detail}
    best = answer.labels[:top_k]
    row = {
        **dict.fromkeys(columns),
        "predicted_label": best[0].label,
        "predicted_score": best[0].score,
        "selected_labels": [label.label for label in answer.labels if label.selected],
        "top_labels": [label.label for label in best],
        "top_scores": [label.score for label in best],
        "modalities": answer.modalities.model_dump(),
    }
    if answer.label_set is not None:
        row |= {"label_set": answer.label_set.labels, "review": answer.label_set.review}
    return row


def embedding_row(answer: Embedding | ServiceError) -> dict[str, object]:
    """The columns of a vector, or of an error."""
    if isinstance(answer, ServiceError):
        return {**dict.fromkeys(EMBEDDING_COLUMNS), "error": answer.code.value, "detail": answer.detail}
    known = {"embedding": answer.embedding, "modalities": answer.modalities.model_dump()}
    return {**dict.fromkeys(EMBEDDING_COLUMNS), **known}
