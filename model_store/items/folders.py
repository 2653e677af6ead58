"""The pictures in a folder, and the files of a folder that are left out."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from model_store.items.formats import HEAD_BYTES, format_of
from model_store.items.rows import Row

Skip: TypeAlias = Callable[[str, str], object]  # receives the path within the folder, and the reason
Fault: TypeAlias = Callable[[Path], str | None]
# A file with such a name is meant as a picture: if it cannot be read, it gets an error instead of being left out.
_SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif"}
_HIDDEN_NAMES = {"__MACOSX"}  # what macOS adds to a zip file
_HIDDEN = "hidden files"
_MAX_NAMES = 10  # in a line


def ignore(_path: str, _reason: str) -> None:
    """Do nothing about a file that is left out."""


@dataclass(frozen=True)
class Skipped:
    """The files that are left out, by the reason."""

    paths: dict[str, list[str]] = field(default_factory=dict)

    def add(self, path: str, reason: str) -> None:
        """Note that a file is left out. A folder's path ends with a slash."""
        self.paths.setdefault(reason, []).append(path)

    def lines(self, folder: object) -> list[str]:
        """A line for each reason: the number of files, and the first names."""
        reasons = self.paths.items()
        return [f"left out of {folder}: {reason} ({len(paths):,}): {_named(paths)}" for reason, paths in reasons]


def folder_rows(folder: Path, skip: Skip = ignore) -> list[Row]:
    """The pictures in a folder and its subfolders, sorted by path.

    A row has `image`, the path relative to the folder, and `label`, the first subfolder of that path or None.

    Args:
        skip: called for each file and subfolder that is left out: hidden, no picture, or not to be read.
    """
    paths = sorted(picture_paths(folder, skip))
    return [{"image": path.as_posix(), "label": path.parts[0] if len(path.parts) > 1 else None} for path in paths]


def picture_paths(folder: Path, skip: Skip = ignore) -> Iterator[Path]:
    """The paths of `folder_rows`, unsorted."""
    return paths_in(folder, _picture_fault, skip)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is left out without a look at its content."""
    return name.startswith(".") or name in _HIDDEN_NAMES


def paths_in(
    folder: Path, file_fault: Fault, skip: Skip, is_hidden: Callable[[str], bool] = is_hidden
) -> Iterator[Path]:
    """The files in a folder and its subfolders, as paths within the folder.

    Links are followed, unless they lead back to a folder above.

    Args:
        file_fault: why a file is left out, or None; may raise OSError.
        skip: called for each file and subfolder that is left out.
    """
    real_folders = {folder: frozenset([folder.resolve()])}  # for a path: its folder and those above it

    def unreadable(error: OSError) -> None:
        skip(f"{Path(error.filename).relative_to(folder)}/", "folders that cannot be read")

    for name, subfolders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        current = Path(name)
        above = real_folders.pop(current)
        for path in sorted(current / subfolder for subfolder in subfolders):
            is_loop = (real := path.resolve()) in above
            if is_loop or is_hidden(path.name):
                subfolders.remove(path.name)
                skip(f"{path.relative_to(folder).as_posix()}/", "links to a folder above" if is_loop else _HIDDEN)
            else:
                real_folders[path] = above | {real}
        for path in sorted(current / file for file in files):
            fault = _HIDDEN if is_hidden(path.name) else _fault(path, file_fault)
            if fault is None:
                yield path.relative_to(folder)
            else:
                skip(path.relative_to(folder).as_posix(), fault)


def _fault(path: Path, file_fault: Fault) -> str | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "files that are not regular"  # reading a pipe would never end
        return file_fault(path)
    except OSError:
        return "links that lead nowhere" if path.is_symlink() else "files that cannot be read"


def _picture_fault(path: Path) -> str | None:
    if path.suffix.lower() in _SUFFIXES:
        return None
    with path.open("rb") as file:
        return None if format_of(file.read(HEAD_BYTES)) else "files that are no pictures"


def _named(paths: list[str]) -> str:
    names = "".join(letter if letter.isprintable() else "\ufffd" for letter in ", ".join(paths[:_MAX_NAMES]))
    return names if len(paths) <= _MAX_NAMES else f"{names} and {len(paths) - _MAX_NAMES:,} more"
