"""Cells of a row: whether a cell is empty, and the encoded picture of an image cell."""

from __future__ import annotations

import stat
import unicodedata
from pathlib import Path
from typing import Any

from model_store.items.invisible import is_blank, without_invisible
from model_store.items.picture_text import PictureTextError, picture_from_text

_MAX_NAMES = 3  # of an object's values, in a message
_BASE64_STARTS = ("iVBORw0KGgo", "/9j/", "UklGR", "R0lGOD", "AAAAHGZ0eX", "AAAAIGZ0eX")  # of PNG, JPEG, WebP, GIF, AVIF
_URI_STARTS = ("http://", "https://", "data:")


class CellError(ValueError):
    """A cell that holds no picture. The message continues "the image ..." and never repeats the cell."""


class NoFileError(CellError):
    """A cell whose path leads to no file that can be read."""


class TooLargeError(CellError):
    """A picture of more bytes than allowed."""


def is_missing(cell: object) -> bool:
    """Whether a cell has no value: null, empty, only white space and invisible characters, NaN, NaT or pandas' NA."""
    if isinstance(cell, str):
        return is_blank(cell)
    try:
        return cell is None or cell == b"" or bool(cell != cell)  # NaN and NaT differ from themselves
    except TypeError:  # NA cannot be compared
        return True


def existing(path: Path) -> Path:
    """The path, or the one that exists and looks like it: in the other normal form, without invisible characters.

    A Mac stores "é" as two characters (NFD); a list of files usually names it as one (NFC).
    """
    if str(path).isascii() or _exists(path):
        return path
    found = Path()
    for part in path.parts:
        visible = without_invisible(part)
        candidates = [found / part, *(found / unicodedata.normalize(form, visible) for form in ("NFC", "NFD"))]
        if (match := next(filter(_exists, candidates), None)) is None:
            return path
        found = match
    return found


def path_of(cell: str, folder: Path) -> Path:
    """The path in a cell. White space around it belongs to the name only if a file has that very name."""
    written = folder / cell
    return written if _exists(written) else existing(folder / cell.strip())


def image_of(cell: object, folder: Path) -> bytes | Path | None:
    """The encoded picture of a cell, or the path of its file; None if the cell is missing.

    Args:
        cell: bytes, a path relative to `folder`, a data: URI, or a dict of `bytes` and `path` as in Hugging Face's data
            sets.

    Raises:
        CellError: the cell has another type, holds its picture under other names, or its path leads to no regular file.
    """
    if isinstance(cell, dict):
        cell = _of_object(cell)
    if is_missing(cell):
        return None
    if isinstance(cell, bytes):
        return cell
    if not isinstance(cell, str):
        raise CellError(f"is of type {type(cell).__name__}, neither a path nor the bytes of a picture")
    start = cell.lstrip()[:8].lower()
    if start.startswith(_URI_STARTS) and not _exists(folder / cell):  # a folder may have the name data:x
        return _from_uri(cell, start)
    path = path_of(cell, folder)
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError) as error:  # ValueError: a null character
        if cell.lstrip().startswith(_BASE64_STARTS):
            raise NoFileError("is base64; write data:image/png;base64, before it, or name a file") from error
        raise NoFileError("does not exist; correct the path, or leave the cell empty") from error
    if not is_file:  # reading a pipe would never end
        raise NoFileError("is not a regular file; correct the path, or leave the cell empty")
    return path


def load_image(image: bytes | Path, max_bytes: int) -> bytes:
    """The encoded picture. Raises CellError if its file cannot be read, or if it has more than `max_bytes`."""
    try:
        size = image.stat().st_size if isinstance(image, Path) else len(image)
        if size > max_bytes:
            raise TooLargeError(f"may have {max_bytes} bytes")
        return image.read_bytes() if isinstance(image, Path) else image
    except OSError as error:
        raise NoFileError("cannot be read; give this user the right to read it") from error


def _of_object(cell: dict[str, Any]) -> object:
    """The bytes or the path in an object. Raises CellError if the object has values under other names only."""
    cells = [cell.get(name) for name in ("bytes", "path")]
    if all(map(is_missing, cells)) and (others := [name for name, value in cell.items() if not is_missing(value)]):
        raise CellError(f"is an object with {', '.join(map(ascii, others[:_MAX_NAMES]))}; it needs bytes or path")
    return next((value for value in cells if not is_missing(value)), None)


def _from_uri(cell: str, start: str) -> bytes:
    """The picture in a data: URI. Raises CellError."""
    if not start.startswith("data:"):
        raise NoFileError("is a URL, which is never fetched; name a file, or leave the cell empty")
    try:
        return picture_from_text(cell)
    except PictureTextError as error:
        raise CellError("is a data: URI that holds no picture; correct it, or leave the cell empty") from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # the name is too long or has a null character, or a folder may not be searched
        return False
