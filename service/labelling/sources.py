"""What `mora-serve classify` labels: the rows of a csv, jsonl or parquet file, or the pictures beneath a folder.

A csv or jsonl file is read twice: whatever is wrong with it is said before any work, and rows are never all in memory.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from service.api.item import Item
from service.errors import ServiceError
from service.labelling.rows import DataSetError, Limits, item_of

if TYPE_CHECKING:
    from service.labelling.parquet_files import ParquetSource

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}  # those of no use are said to be so
KINDS = (".csv", ".jsonl", ".parquet")
_MAX_CELL_CHARACTERS = 16_000_000  # csv's own limit is below the longest text
Row = dict[str, Any]
Source: TypeAlias = "PlainSource | ParquetSource"


class Kept(Protocol):
    """Columns of consecutive rows that the output has too."""

    def plain(self) -> list[Row]:
        """Row by row, in what Python has for a cell."""


@dataclass(frozen=True)
class PlainRows:
    """Columns that were no more than Python's objects to begin with."""

    rows: list[Row]

    def plain(self) -> list[Row]:
        """Themselves."""
        return self.rows


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows: what is to be labelled, and what the output keeps of them."""

    items: Sequence[Item | ServiceError]
    kept: Kept
    names: Sequence[str] = ()  # of the rows, where they have any


@dataclass(frozen=True)
class Columns:
    """Which columns hold what."""

    image: str | None
    text: str | None
    keep: tuple[str, ...]


def open_source(path: Path) -> Source:
    """The rows of a file or a folder, checked as far as that needs no picture. Raises DataSetError."""
    kind = path.suffix.lower()
    if not path.exists():
        raise DataSetError(f"there is no {path}")
    if not path.is_dir() and kind not in KINDS:
        raise DataSetError(f"{path} is neither a folder of pictures nor a {', '.join(KINDS)} file")
    if not path.is_dir() and not path.is_file():
        raise DataSetError(f"{path} is read more than once, so it has to be a plain file")
    try:
        source = _parquet(path) if kind == ".parquet" and path.is_file() else _plain(path, kind)
    except (OSError, ValueError) as error:
        raise DataSetError(_unreadable(path, error)) from error
    if repeated := [name for name, count in Counter(source.names).items() if count > 1]:
        raise DataSetError(f"{path} has the column {repeated[0]} more than once; rename all but one")
    if not source.rows:
        raise DataSetError(_empty(path))
    return source


@dataclass(frozen=True)
class PlainSource:
    """Rows that come as dicts of Python's objects.

    `binary` are columns that neither csv nor JSON can hold.
    """

    path: Path
    folder: Path  # what paths of pictures are relative to
    names: Sequence[str]
    rows: int
    read: Callable[[Path], Iterator[Row]]
    binary: Sequence[str] = ()

    def check_types(self, image: str | None, text: str | None) -> None:
        """Whatever a cell holds is a matter of its row."""

    def chunks(self, columns: Columns, limits: Limits, size: int) -> Iterator[Chunk]:
        """All rows, so many at a time. Raises DataSetError."""
        for piece in self._pieces(size):
            items = [item_of(_cell(row, columns.image), _cell(row, columns.text), self.folder, limits) for row in piece]
            names = [row["image"] for row in piece] if self.path == self.folder else ()
            yield Chunk(items, PlainRows(_selected(piece, columns.keep)), names)

    def kept(self, keep: Sequence[str], size: int) -> Iterator[list[Row]]:
        """These columns of all rows, so many rows at a time. Raises DataSetError."""
        return (_selected(piece, keep) for piece in self._pieces(size))

    def _pieces(self, size: int) -> Iterator[list[Row]]:
        rows = self.read(self.path)
        try:
            while piece := list(islice(rows, size)):
                yield piece
        except (OSError, ValueError) as error:
            raise DataSetError(f"{_unreadable(self.path, error)}; it has changed since it was checked") from error


def _selected(rows: Sequence[Row], keep: Sequence[str]) -> list[Row]:
    return [{name: row.get(name) for name in keep} for row in rows]


def _cell(row: Row, column: str | None) -> object:
    return None if column is None else row.get(column)


def _plain(path: Path, kind: str) -> PlainSource:
    if path.is_dir():
        return PlainSource(path, path, ["image"], sum(1 for _ in _pictures(path)), _pictures)
    if kind == ".csv":
        return PlainSource(path, path.parent, _csv_header(path)[1], sum(1 for _ in _csv(path)), _csv)
    names: dict[str, None] = {}
    rows = 0
    for row in _jsonl(path):
        names |= dict.fromkeys(row)
        rows += 1
    return PlainSource(path, path.parent, list(names), rows, _jsonl)


def _parquet(path: Path) -> ParquetSource:
    try:
        from service.labelling.parquet_files import ParquetSource  # only now: it needs an extra
    except ModuleNotFoundError as error:
        raise DataSetError(f"{path} needs the extra parquet (pip install '.[parquet]'); {error}") from error
    return ParquetSource(path)


def _pictures(folder: Path) -> Iterator[Row]:
    """Each picture beneath a folder by its path in it, in order; hidden ones are none."""
    found = [
        path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file()
    ]
    for path in sorted(path for path in found if not any(part.startswith(".") for part in path.parts)):
        yield {"image": path.as_posix()}


def _csv_header(path: Path) -> tuple[str, list[str]]:
    """What parts the cells, and the columns' names."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        delimiter = max(",;\t", key=header.count)
        file.seek(0)
        return delimiter, [name.strip() for name in next(csv.reader(file, delimiter=delimiter), [])]


def _csv(path: Path) -> Iterator[Row]:
    """Every cell as text: 01 stays 01. Raises ValueError for a line that has not as many cells as the header."""
    delimiter, names = _csv_header(path)
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            next(lines, None)
            for cells in lines:
                if cells and len(cells) != len(names):
                    counts = f"has {len(cells)} cells, the header {len(names)}"
                    raise ValueError(f"line {lines.line_num} {counts}; put quotes around a {delimiter!r} in a cell")
                if cells:
                    yield dict(zip(names, cells, strict=True))
        except csv.Error as error:
            raise ValueError(f"line {lines.line_num}: {error}") from error


def _jsonl(path: Path) -> Iterator[Row]:
    """The objects of the lines that are not blank. Raises ValueError for a line that is none."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").strip()
            if text:
                try:
                    yield dict(json.loads(text))
                except (ValueError, TypeError, RecursionError) as error:
                    raise ValueError(f"line {number} is not a JSON object") from error


def _unreadable(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"{path} is not UTF-8; save it as UTF-8"
    return f"{path} cannot be read: {error.strerror if isinstance(error, OSError) and error.strerror else error}"


def _empty(path: Path) -> str:
    if path.is_dir() and any(path.rglob("*.parquet")):
        return f"{path} has no pictures; a folder of parquet files is for mora-serve bulk"
    return f"{path} has no {'pictures' if path.is_dir() else 'rows'}"
