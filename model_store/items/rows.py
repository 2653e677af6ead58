"""A row by column name, and the errors of files whose rows cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from model_store.items.contents import TEXT, describe_content
from model_store.items.formats import format_of
from model_store.items.invisible import visible_form
from model_store.messages import describe_error

Row: TypeAlias = dict[str, Any]
_START_BYTES = 512  # of a file, which tell what it is
_ZIP, _UTF_16 = b"PK\x03\x04", (b"\xff\xfe", b"\xfe\xff")


class TableError(ValueError):
    """Rows that cannot be read. The message names the file, the line if it is known, and the cure."""


@contextmanager
def table_errors(path: Path) -> Iterator[None]:
    """Turn the errors of reading a file into a TableError that names the file."""
    try:
        yield
    except TableError:
        raise
    except UnicodeDecodeError as error:
        raise TableError(f"{path} {encoding_fault(path)}") from error
    except (OSError, ValueError) as error:
        problem = describe_error(error)
        kind = path.suffix.lower().removeprefix(".")
        raise TableError(f"{path} cannot be read as {kind}: {problem.removeprefix(f'{path}: ')}") from error


def check_unique(path: Path, names: Sequence[str]) -> None:
    """Refuse a duplicate column name. Raises TableError."""
    if repeated := repeated_names(names):
        if not repeated[0]:
            raise TableError(f"{path} has several columns without a name; name these columns, or delete them")
        raise TableError(f"{path} has the column {repeated[0]!r} more than once; rename all but one")


def repeated_names(names: Sequence[str]) -> list[str]:
    """The names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def encoding_fault(path: Path) -> str:
    """Why a file could not be read as UTF-8, as a predicate, and the cure."""
    if fault := binary_fault(path):
        return fault
    with path.open("rb") as file:
        start = file.read(8)
        has_null, has_text_in_each_byte = b"\0" in start, any(start[::2]) and any(start[1::2])
        if start.startswith(_UTF_16) or (has_null and any(start) and not has_text_in_each_byte):
            return "is in UTF-16; save it as UTF-8"
        if has_null:
            return "is a binary file; name a file of text in UTF-8"
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as text:
        for number, line in enumerate(text, start=1):
            try:
                line.encode()
            except UnicodeEncodeError:
                return f"is not UTF-8 in line {number}; save it as UTF-8"
    return "was being written; try again"


def binary_fault(path: Path) -> str | None:
    """What a file is if it is no text, as a predicate, and the cure; None for text and unknown files."""
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    if start.startswith(_ZIP):
        return "is an Excel workbook, or another zip file; save it as CSV in UTF-8"
    picture = format_of(start)
    kind = f"a {picture} picture" if picture else describe_content(start)
    if kind in (None, TEXT):
        return None
    return f"is {kind}, not text in UTF-8; unpack or convert it, or correct its suffix"


def column_named(names: Sequence[str], name: str) -> str | None:
    """The column of this name, or the only one that looks like it; None without one."""
    if name in names:
        return name
    alike = [other for other in names if visible_form(other) == visible_form(name)]
    return alike[0] if len(alike) == 1 else None
