"""Rows of a file or folder in chunks: the items to label, and the columns that the output keeps.

A csv or jsonl file is read twice: its errors are reported before any work, and its rows are never all in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from model_store.items.rows import Row, TableError
from model_store.items.tables import PlainTable, Table, open_table
from service.api.item import Item
from service.errors import ServiceError
from service.labelling.rows import Columns, DataSetError, Limits, choose_columns, items_of

if TYPE_CHECKING:
    import pyarrow as pa

KeptColumns: TypeAlias = "list[Row] | pa.Table"


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of an input."""

    items: Sequence[Item | ServiceError]
    kept: KeptColumns
    names: Sequence[str] = ()  # of the rows, if they have any


def open_source(path: Path) -> Table:
    """The rows of a file or a folder, checked as far as possible without the pictures.

    Raises DataSetError or TableError.
    """
    table = open_table(path)
    if not table.rows:
        if path.is_dir() and any(path.rglob("*.parquet")):
            raise DataSetError(f"{path} has no pictures; a folder of parquet files is for mora-serve bulk")
        raise DataSetError(f"{path} has no {'pictures' if path.is_dir() else 'rows'}")
    return replace(table, names=["image"]) if isinstance(table, PlainTable) and path.is_dir() else table


def columns_of(
    table: Table, image: str | None, text: str | None, keep: Sequence[str] | None, output: Path | None
) -> Columns:
    """The columns that the options name, or the default ones without bytes that the output cannot hold.

    Raises DataSetError.
    """
    holds_bytes = output is not None and output.suffix.lower() == ".parquet"
    binary: Sequence[str] = () if isinstance(table, PlainTable) or holds_bytes else table.binary
    if keep is None:
        keep = [name for name in table.names if name not in binary]
    columns = choose_columns(table.names, image, text, keep)
    if not isinstance(table, PlainTable):
        from service.labelling.data_set import check_types  # only now: pyarrow is an extra

        check_types(table.schema, columns)
    if unfit := [name for name in keep if name in binary]:
        raise DataSetError(f"the column {unfit[0]} holds bytes; write .parquet, or leave it out of --keep")
    return columns


def chunks_of(table: Table, columns: Columns, limits: Limits, size: int) -> Iterator[Chunk]:
    """All rows, `size` at a time. Raises DataSetError or TableError."""
    if not isinstance(table, PlainTable):
        for part in table.tables(columns.all(), size):
            yield chunk_of(part, columns, table.folder, limits)
        return
    try:
        for rows in table.chunks(columns.all(), size):
            names = [row["image"] for row in rows] if table.path.is_dir() else ()
            kept = [{name: row[name] for name in columns.keep} for row in rows]
            yield Chunk(items_of(rows, columns, table.folder, limits), kept, names)
    except TableError as error:
        raise DataSetError(f"{error}; the file has changed since it was checked") from error


def chunk_of(table: pa.Table, columns: Columns, folder: Path, limits: Limits) -> Chunk:
    """The rows of a table whose paths of pictures are relative to `folder`."""
    from model_store.items.parquet_files import rows_of

    rows = rows_of(table.select(columns.cells()))
    return Chunk(items_of(rows, columns, folder, limits), table.select(columns.keep))


def plain_rows(kept: KeptColumns) -> list[Row]:
    """The kept columns row by row; bytes that call themselves a string and are not UTF-8 get U+FFFD."""
    if isinstance(kept, list):
        return kept
    from model_store.items.parquet_files import rows_of

    return rows_of(kept, invalid_text="replace")
