"""The errors of training that a user can correct. Every message names the cause and the cure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from model_store.items.formats import FORMATS
from model_store.items.pictures import MAX_PIXELS, PictureError, PictureProblem
from model_store.messages import describe_os_error

_PICTURE_FAULTS = {
    PictureProblem.FORMAT: f"is not a {FORMATS} file",
    PictureProblem.DECODER: "is in a format that Pillow was built without here",
    PictureProblem.PIXELS: f"has more than {MAX_PIXELS:,} pixels, before or after it is resized",
    PictureProblem.UNDECODABLE: "is damaged or cut short",
}
_MAX_CAUSE = 200  # characters


class TrainingError(Exception):
    """Training cannot go on."""


class ConfigError(TrainingError):
    """The configuration or a flag is wrong."""


class DataError(TrainingError):
    """The data is wrong; the message names the file, the rows and the cure."""


class PictureFaultError(DataError):
    """A picture cannot be used; `fault` says why, without the name of the picture and the cure."""

    def __init__(self, message: str, fault: str) -> None:
        super().__init__(message)
        self.fault = fault


class EmptyItemError(DataError):
    """A row has neither an image nor a text."""


class BackboneError(TrainingError):
    """The backbone cannot be loaded or cannot be adapted as configured."""


class PreprocessingMissingError(BackboneError):
    """The backbone has no image processor or no tokenizer."""


class SourceError(TrainingError):
    """The source of an import cannot be read, or does not fit the backbone and the configuration."""


class ExportError(TrainingError):
    """The exported graphs disagree with the model, so no version is published."""


class DivergedError(TrainingError):
    """A loss, a gradient, a score or a feature is not finite."""


class RunError(TrainingError):
    """The command cannot use the run directory."""


def first_few(names: Collection[str], limit: int = 3) -> str:
    """The first few names for a message, and the number of the others."""
    shown = ", ".join([*names][:limit]) or "nothing"
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def cause_of(error: Exception) -> str:
    """An error of a library in one line of at most 200 characters, with its type."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_CAUSE]


def picture_fault(name: str, error: PictureError, cure: str = "replace it, or leave the cell empty") -> DataError:
    """The error for a picture that cannot be used: its name, the fault and the cure."""
    fault = _PICTURE_FAULTS[error.problem]
    return PictureFaultError(f"{name} {fault}; {cure}", fault)


@contextmanager
def picture_errors(image: bytes | Path) -> Iterator[None]:
    """Turn the error of a picture that cannot be used, or of its file, into a DataError that names the file."""
    try:
        yield
    except PictureError as error:
        raise picture_fault("an image" if isinstance(image, bytes) else str(image), error) from error
    except OSError as error:
        raise DataError(describe_os_error(error)) from error


@contextmanager
def naming_row(row: int) -> Iterator[None]:
    """Add the row to a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"row {row}: {error}") from error
