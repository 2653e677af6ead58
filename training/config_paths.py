"""The paths in a configuration: in a file they start from its folder, in a run they are absolute."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from model_store.items.cells import existing
from model_store.items.tables import SUFFIXES
from training.errors import ConfigError

_SPLITS = ("train", "validation", "test")
_MAY_BE_ON_A_HUB = ("backbone", *(f"data.{split}" for split in _SPLITS))
_PATHS = (*_MAY_BE_ON_A_HUB, "data.root", *(f"missing.{split}.table" for split in _SPLITS))
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?(:[^/]+)?")


def start_from_file(values: dict[str, Any], file: Path, given: Collection[str]) -> None:
    """Let the paths in the content of a configuration file start from its folder.

    Args:
        given: the fields and groups that flags have set. Their paths start from the working directory.

    Raises:
        ConfigError: a path leads nowhere from the file's folder, but somewhere from the working directory.
    """

    def start(name: str, value: str) -> str:
        is_given = any(name == field or name.startswith(f"{field}.") for field in given)
        return value if is_given else _from_folder(name, value, file)

    _change(values, start)


def absolute(values: dict[str, Any]) -> dict[str, Any]:
    """The configuration with absolute paths, so that a run can be opened from any working directory."""
    _change(values, lambda _, value: os.path.abspath(value) if existing(Path(value)).exists() else value)  # noqa: PTH100
    return values


def from_here(values: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a run with relative paths where they lie below the working directory."""
    here = Path.cwd()
    _change(values, lambda _, value: str(Path(value).relative_to(here)) if Path(value).is_relative_to(here) else value)
    return values


def _from_folder(name: str, value: str, file: Path) -> str:
    folder, path = file.parent, Path(value)
    if path.is_absolute():
        return value
    joined = existing(folder / path)
    if joined.exists():
        short = Path(os.path.normpath(joined))
        return str(short if short.exists() and short.samefile(joined) else joined)
    if existing(path).exists():
        cure = f"write {os.path.relpath(path, folder)}, or give the path as --{name}"
        raise ConfigError(
            f"{file}: {name}: its paths start from its own folder, where there is no {value}, only in the working "
            f"directory; {cure}"
        )
    if name in _MAY_BE_ON_A_HUB and _HUB_NAME.fullmatch(value) and path.suffix.lower() not in SUFFIXES:
        return value
    return str(joined) if joined.is_absolute() else f"./{joined}"  # which is no name on a hub


def _change(values: dict[str, Any], change: Callable[[str, str], str]) -> None:
    """Change the paths in place; the values may not be validated yet."""
    for name in _PATHS:
        *groups, field = name.split(".")
        holder: Any = values
        for group in groups:
            holder = holder.get(group) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and isinstance(holder.get(field), str):
            holder[field] = change(name, holder[field])
