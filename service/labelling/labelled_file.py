"""`mora-serve classify INPUT`: every row of a file or folder, labelled in this process or by a service."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from service.labelling.answerers import Answerer, label_rows
from service.labelling.progress import RowCounts, RowProgress
from service.labelling.rows import Columns, DataSetError, Limits, choose_columns
from service.labelling.sources import Source
from service.labelling.writers import open_output

CHUNK_ROWS = 128  # rows in memory at the same time, with their pictures


def label_file(
    source: Source,
    columns: Columns,
    limits: Limits,
    top_k: int,
    output: Path | None,
    open_answerer: Callable[[], Answerer],
) -> RowCounts:
    """Write an answer for every row to standard output, or to a file that appears once it is complete.

    Raises:
        ClientError, DataSetError, StoreError, RefusedError: the work cannot be done, or cannot be finished.
    """
    counts = RowCounts()
    console = Console(stderr=True, quiet=output is None and sys.stdout.isatty())  # no bar amid the rows
    with (
        open_output(output, source, columns) as write,
        RowProgress(source.rows, console) as progress,
        closing(open_answerer()) as answerer,
    ):
        for chunk in source.chunks(columns, limits, CHUNK_ROWS):
            rows = label_rows(chunk.items, answerer, top_k)
            write(chunk.kept, rows)
            progress.advance(len(rows), counts.add(rows, chunk.names))
    return counts


def columns_of(
    source: Source, image: str | None, text: str | None, keep: Sequence[str] | None, output: Path | None
) -> Columns:
    """The columns that the options name, or the default ones without bytes that the output cannot hold.

    Raises DataSetError.
    """
    binary = [] if output is not None and output.suffix.lower() == ".parquet" else source.binary
    if keep is None:
        keep = [name for name in source.names if name not in binary]
    columns = choose_columns(source.names, image, text, keep)
    source.check_types(columns.image, columns.text)
    if unfit := [name for name in keep if name in binary]:
        raise DataSetError(f"the column {unfit[0]} holds bytes; write .parquet, or leave it out of --keep")
    return columns
