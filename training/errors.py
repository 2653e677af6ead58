"""The errors of training that a user can correct. Every message names the cause and the cure."""

from __future__ import annotations

from collections.abc import Collection

_LISTED = 3  # of many names


class TrainingError(Exception):
    """Training refuses to go on."""


class ConfigError(TrainingError):
    """The configuration or a flag is wrong."""


class DataError(TrainingError):
    """The data is wrong; the message names the file, the rows and the cure."""


class BackboneError(TrainingError):
    """The backbone cannot be loaded or cannot be adapted as configured."""


class SourceError(TrainingError):
    """The source of an import cannot be read, or does not fit the backbone and the configuration."""


class ExportError(TrainingError):
    """The exported graphs disagree with the model, so no version is published."""


class RunError(TrainingError):
    """A run directory is not one that the command can use."""


def first_few(names: Collection[str]) -> str:
    """The first few names for a message, and how many more."""
    shown = ", ".join([*names][:_LISTED]) or "nothing"
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"
