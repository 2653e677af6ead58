"""The errors of training that a user can correct. Every message names the cause and the cure."""

from __future__ import annotations

from collections.abc import Collection

from model_store.items.pictures import MAX_PIXELS, PictureError, PictureProblem

_PICTURE_FAULTS = {
    PictureProblem.FORMAT: "is not a JPEG, PNG or WebP file",
    PictureProblem.PIXELS: f"has more than {MAX_PIXELS:,} pixels, before or after it is resized",
    PictureProblem.UNDECODABLE: "is damaged or cut short",
}


class TrainingError(Exception):
    """Training cannot go on."""


class ConfigError(TrainingError):
    """The configuration or a flag is wrong."""


class DataError(TrainingError):
    """The data is wrong; the message names the file, the rows and the cure."""


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


def picture_fault(name: str, error: PictureError, cure: str = "replace it, or leave the cell empty") -> DataError:
    """The error for a picture that cannot be used: its name, the fault and the cure."""
    return DataError(f"{name} {_PICTURE_FAULTS[error.problem]}; {cure}")
