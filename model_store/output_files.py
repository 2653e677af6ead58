"""The files and folders that commands write: they replace nothing unless the user says so."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from model_store.errors import StoreError

ForceOption = Annotated[bool, typer.Option("--force", help="Replace files that exist.", show_default=False)]


class OutputError(StoreError):
    """A command does not write where it was told to. The message names the path and the remedy."""


def check_output_file(path: Path, *, force: bool) -> None:
    """Refuse a file that exists, unless `force` is set, and one that cannot be created. Raises OutputError."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {path.parent}; create it, or correct the path")
    if path.is_file() and not force:  # a pipe or a device is no file
        raise OutputError(f"{path} exists; choose another name, or add --force to replace it")


def check_output_folder(path: Path, *, force: bool, names: Collection[str] | None = None) -> None:
    """Refuse a folder that holds files, unless `force` is set, and one that cannot be created. Raises OutputError.

    Args:
        names: of the files that the command writes; by default every file counts.
    """
    check_folder(path, "choose another folder with --output")
    held = sorted(each.name for each in path.iterdir()) if path.is_dir() and not force else []
    if names is not None:
        held = [name for name in held if name in names]
    if held:
        cure = "choose another folder with --output, or add --force to replace files in it"
        raise OutputError(f"{path} holds {held[0]}; {cure}")


def check_folder(path: Path, cure: str) -> None:
    """Refuse a path that is no folder and cannot become one, or in which nothing can be created. Raises OutputError."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise OutputError(f"{existing} is not a folder; {cure}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{existing} cannot be written to; {cure}, or change its permissions (ls -ld shows them)")
