"""What `mora-serve classify` labels: the rows of a csv, jsonl or parquet file, or the pictures beneath a folder.

A csv or jsonl file is read twice: its errors are reported before any work, and its rows are never all in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from model_store.items.rows import Row, TableError
from model_store.items.tables import PlainTable, open_table
from service.api.item import Item
from service.errors import ServiceError
from service.labelling.rows import Columns, DataSetError, Limits, items_of

if TYPE_CHECKING:
    import pyarrow as pa

    from model_store.items.parquet_files import ParquetTable

Source: TypeAlias = "PlainSource | ParquetSource"


class KeptColumns(Protocol):
    """Columns of consecutive rows that the output has too."""

    def plain(self) -> list[Row]:
        """Row by row, in what Python has for a cell."""


@dataclass(frozen=True)
class PlainColumns:
    """Columns that were Python's objects from the start."""

    rows: list[Row]

    def plain(self) -> list[Row]:
        """Themselves."""
        return self.rows


@dataclass(frozen=True)
class TableColumns:
    """Columns of a parquet file."""

    table: pa.Table

    def plain(self) -> list[Row]:
        """Row by row; bytes that call themselves a string and are not UTF-8 get U+FFFD."""
        from model_store.items.parquet_files import rows_of  # only now: pyarrow is an extra

        return rows_of(self.table, invalid_text="replace")


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows: what is to be labelled, and what the output keeps of them."""

    items: Sequence[Item | ServiceError]
    kept: KeptColumns
    names: Sequence[str] = ()  # of the rows, where they have any


def open_source(path: Path) -> Source:
    """The rows of a file or a folder, checked as far as that needs no picture. Raises DataSetError."""
    try:
        table = open_table(path)
    except TableError as error:
        raise DataSetError(str(error)) from error
    if not table.rows:
        raise DataSetError(_empty(path))
    return PlainSource(table) if isinstance(table, PlainTable) else ParquetSource(table)


class PlainSource:
    """Rows of csv, jsonl or a folder. `binary` are columns that neither csv nor JSON can hold."""

    binary: Sequence[str] = ()

    def __init__(self, table: PlainTable) -> None:
        self._table = table
        self.path, self.folder, self.rows = table.path, table.folder, table.rows
        self._is_folder = table.path == table.folder
        self.names: Sequence[str] = ["image"] if self._is_folder else table.names

    def check_types(self, image: str | None, text: str | None) -> None:
        """Accept any columns: each cell is checked with its row."""

    def chunks(self, columns: Columns, limits: Limits, size: int) -> Iterator[Chunk]:
        """All rows, so many at a time. Raises DataSetError."""
        for rows in self._rows(columns.all(), size):
            items = items_of(rows, columns, self.folder, limits)
            names = [row["image"] for row in rows] if self._is_folder else ()
            yield Chunk(items, PlainColumns([{name: row[name] for name in columns.keep} for row in rows]), names)

    def kept(self, keep: Sequence[str], size: int) -> Iterator[list[Row]]:
        """These columns of all rows, so many rows at a time. Raises DataSetError."""
        return self._rows(keep, size)

    def _rows(self, columns: Collection[str], size: int) -> Iterator[list[Row]]:
        try:
            yield from self._table.chunks(columns, size)
        except TableError as error:
            raise DataSetError(f"{error}; the file has changed since it was checked") from error


class ParquetSource:
    """Rows of a parquet file. `binary` are columns that neither csv nor JSON can hold."""

    def __init__(self, table: ParquetTable) -> None:
        self._table = table
        self.path, self.folder, self.rows = table.path, table.folder, table.rows
        self.names, self.binary, self.schema = table.names, table.binary, table.schema

    def check_types(self, image: str | None, text: str | None) -> None:
        """Refuse columns that can hold no image, or no text. Raises DataSetError."""
        from service.labelling.data_set import check_types  # only now: it needs pyarrow

        check_types(self.schema, image, text)

    def chunks(self, columns: Columns, limits: Limits, size: int) -> Iterator[Chunk]:
        """All rows, so many at a time. Raises DataSetError."""
        try:
            for table in self._table.tables(columns.all(), size):
                yield chunk_of(table, columns, self.folder, limits)
        except TableError as error:
            raise DataSetError(str(error)) from error


def chunk_of(table: pa.Table, columns: Columns, folder: Path, limits: Limits) -> Chunk:
    """The items and the kept columns of a table."""
    from model_store.items.parquet_files import rows_of

    items = items_of(rows_of(table.select(columns.cells())), columns, folder, limits)
    return Chunk(items, TableColumns(table.select(columns.keep)))


def _empty(path: Path) -> str:
    if path.is_dir() and any(path.rglob("*.parquet")):
        return f"{path} has no pictures; a folder of parquet files is for mora-serve bulk"
    return f"{path} has no {'pictures' if path.is_dir() else 'rows'}"
