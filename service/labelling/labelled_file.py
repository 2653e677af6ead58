"""`mora-serve classify INPUT`: every row of a file or folder, labelled in this process or by a service."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from rich.console import Console

from model_store.items.tables import Table
from service.labelling.answerers import Answerer, label_rows
from service.labelling.progress import RowCounts, RowProgress
from service.labelling.rows import Columns, Limits
from service.labelling.sources import chunks_of
from service.labelling.writers import open_output

CHUNK_ROWS = 128  # rows in memory at the same time, with their pictures


def label_file(
    table: Table,
    columns: Columns,
    limits: Limits,
    top_k: int,
    output: Path | None,
    open_answerer: Callable[[], Answerer],
) -> RowCounts:
    """Write an answer for every row to standard output, or to a file that appears once it is complete.

    Raises:
        ClientError, DataSetError, StoreError, RefusedError, TableError: the work cannot be done or finished.
    """
    counts = RowCounts()
    console = Console(stderr=True, quiet=output is None and sys.stdout.isatty())  # no bar amid the rows
    with (
        open_output(output, table, columns) as write,
        RowProgress(table.rows, console) as progress,
        closing(open_answerer()) as answerer,
    ):
        for chunk in chunks_of(table, columns, limits, CHUNK_ROWS):
            rows = label_rows(chunk.items, answerer, top_k)
            write(chunk.kept, rows)
            progress.advance(len(rows), counts.add(rows, chunk.names))
    return counts
