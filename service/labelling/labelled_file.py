"""`mora-serve classify INPUT` and `embed`: every row of a file or folder, answered in this process or by a service.

A csv or jsonl file is read twice: its errors are reported before any work, and its rows are never all in memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from model_store.items.rows import Row, TableError
from model_store.items.tables import PlainTable, Table, open_table
from service.api.item import Item
from service.errors import ServiceError
from service.labelling.answerers import Answerer
from service.labelling.progress import RowCounts, RowProgress
from service.labelling.rows import Columns, DataSetError, KeptColumns, Limits, choose_columns, items_of
from service.labelling.writers import open_output

AnswerRows: TypeAlias = Callable[[Sequence[Item | ServiceError], Answerer], list[Row]]
CHUNK_ROWS = 128  # rows in memory at the same time, with their pictures


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of an input: their items, and the columns that the output keeps."""

    items: Sequence[Item | ServiceError]
    kept: KeptColumns
    names: Sequence[str] = ()  # of the rows, which are the paths of pictures in a folder


def open_source(path: Path) -> Table:
    """The rows of a file or a folder, checked without opening the pictures. Raises DataSetError or TableError."""
    table = open_table(path)
    if not table.rows:
        if path.is_dir() and any(path.rglob("*.parquet")):
            raise DataSetError(f"{path} has no pictures; a folder of parquet files is for mora-serve bulk")
        missing = "pictures" if path.is_dir() else "rows"
        raise DataSetError("; ".join([f"{path} has no {missing}", *skipped_lines(table)]))
    return replace(table, names=["image"]) if isinstance(table, PlainTable) and path.is_dir() else table


def skipped_lines(table: Table) -> list[str]:
    """The files of a folder that are no rows: a line for each reason."""
    return table.skipped.lines(table.path) if isinstance(table, PlainTable) else []


def columns_of(
    table: Table,
    image: str | None,
    text: str | None,
    keep: Sequence[str] | None,
    answers: tuple[str, ...],
    output: Path | None,
) -> Columns:
    """The columns of the options. By default the output keeps every column that its format can hold.

    Raises DataSetError.
    """
    if isinstance(table, PlainTable):
        return choose_columns(table.names, image, text, keep, answers)
    from service.labelling.parquet import check_types  # only now: pyarrow is an extra

    holds_bytes = output is not None and output.suffix.lower() == ".parquet"
    unfit = () if holds_bytes else table.binary
    keep = [name for name in table.names if name not in unfit] if keep is None else keep
    columns = choose_columns(table.names, image, text, keep, answers)
    check_types(table.schema, columns, table.is_empty)
    if binary := [name for name in keep if name in unfit]:
        raise DataSetError(f"the column {binary[0]} holds bytes; write .parquet, or leave it out of --keep")
    return columns


def chunks_of(table: Table, columns: Columns, limits: Limits, size: int) -> Iterator[Chunk]:
    """All rows, `size` at a time. Raises DataSetError or TableError."""
    if not isinstance(table, PlainTable):
        from model_store.items.parquet_files import rows_of

        for part in table.tables(columns.all(), size):
            items = items_of(rows_of(part.select(columns.cells())), columns, table.folder, limits)
            yield Chunk(items, part.select(columns.keep))
        return
    try:
        for rows in table.chunks(columns.all(), size):
            names = [row["image"] for row in rows] if table.path.is_dir() else ()
            kept = [{name: row[name] for name in columns.keep} for row in rows]
            yield Chunk(items_of(rows, columns, table.folder, limits), kept, names)
    except TableError as error:
        raise DataSetError(f"{error}; the file has changed since it was checked") from error


def label_file(
    table: Table,
    columns: Columns,
    limits: Limits,
    answer_rows: AnswerRows,
    output: Path | None,
    open_answerer: Callable[[], Answerer],
) -> RowCounts:
    """Write an answer for every row to standard output, or to a file that appears once it is complete.

    Raises:
        ClientError, DataSetError, ServiceError, StoreError, RefusedError, TableError: the work cannot start or be
            completed.
    """
    counts = RowCounts()
    console = Console(stderr=True, quiet=output is None and sys.stdout.isatty())  # no bar between the rows
    with (
        open_output(output, table, columns) as write,
        RowProgress(table.rows, console) as progress,
        closing(open_answerer()) as answerer,
    ):
        for chunk in chunks_of(table, columns, limits, CHUNK_ROWS):
            rows = answer_rows(chunk.items, answerer)
            write(chunk.kept, rows)
            progress.add(len(rows), counts.add(rows, chunk.names))
    return counts
