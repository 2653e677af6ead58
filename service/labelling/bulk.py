"""`mora-serve bulk`: a parquet data set labelled part by part; the file of a part appears once it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from model_store.atomic_file import atomic_file
from model_store.describe.tables import plain
from model_store.items.folders import Skipped
from model_store.items.parquet_files import read_batches, rows_of
from service.labelling.answerers import StoreAnswerer, label_rows, open_store
from service.labelling.job import InputFile, Part, locked, resume
from service.labelling.parquet import open_parquet
from service.labelling.planning import BulkOptions, Plan, check_paths, folder_columns, make_plan, manifest_digest
from service.labelling.progress import RowCounts, RowProgress
from service.labelling.rows import Columns, DataSetError, answer_columns, items_of
from service.settings import Settings


class LabelledPart(NamedTuple):
    """A part whose file is written."""

    rows: int
    failed: int  # rows with an error


def label_data_set(
    options: BulkOptions,
    settings: Settings,
    executor: Callable[[Plan, Sequence[Part]], Iterator[LabelledPart]],
    console: Console,
) -> RowCounts:
    """Label the parts that are not done yet; returns the counts of the whole output.

    Raises:
        DataSetError, ServiceError, StoreError, RefusedError, TableError: the job cannot resume or be completed.
    """
    check_paths(options)
    with console.status("reading the input"):
        skipped = Skipped()
        plan = make_plan(options, settings, skipped.add)
    for line in skipped.lines(options.source):
        console.print(plain(line), markup=False, highlight=False, soft_wrap=True)
    if options.keep is None and (columns := folder_columns(plan)):
        note = f"the output lacks {', '.join(columns)}, which only names of folders hold: write them into the files"
        console.print(plain(note), markup=False, highlight=False, soft_wrap=True)
    options.output.mkdir(parents=True, exist_ok=True)  # only now: a refused job leaves no folder
    with locked(options.output):
        parts, all_parts = resume(plan.job, options.output), plan.job.parts()
        done = len(all_parts) - len(parts)
        if not parts:
            console.print(f"the job is finished: all {done} parts are done already")
        elif done:
            console.print(f"{done} of {len(all_parts)} parts are done already; labelling the others")
        if parts:
            with RowProgress(sum(part.rows for part in parts), console) as progress:
                for labelled in executor(plan, parts):
                    progress.add(labelled.rows, labelled.failed)
        counts = RowCounts()
        for part in all_parts:
            table = pq.read_table(options.output / part.name, columns=["error", "detail"], partitioning=None)
            counts.add(table.to_pylist())
        return counts


class PartLabeller:
    """Labels parts in this process with the version of the job, which is loaded once.

    Raises StoreError, RefusedError or DataSetError if the store lacks the version that the job began with.
    """

    def __init__(self, plan: Plan) -> None:
        job, store = plan.job, open_store(plan.settings)
        if manifest_digest(store, job.task, job.version) != job.manifest_sha256:
            raise DataSetError(f"{store.root} has another {job.task} version {job.version} than the job began with")
        self._plan = plan
        self._columns = Columns(job.image_column, job.text_column, job.keep, answer_columns(job.coverage))
        self._reader = PartReader(plan.folder, job.files, plan.schema)
        self._answerer = StoreAnswerer(store, plan.settings, job.task, job.version, job.coverage)

    def label(self, part: Part) -> LabelledPart:
        """Write the file of a part."""
        job, table = self._plan.job, self._reader.read(part)
        kept, cells = table.select(job.keep), rows_of(table.select(self._columns.cells()))
        items = items_of(cells, self._columns, (self._plan.folder / part.file).parent, job.limits)
        columns = self._columns.answers
        rows = label_rows(items, self._answerer, job.top_k, columns)
        with atomic_file(self._plan.output / part.name) as file, open_parquet(file, kept.schema, columns) as write:
            write(kept, rows)
        return LabelledPart(len(rows), RowCounts().add(rows))

    def close(self) -> None:
        """End the threads."""
        self._answerer.close()


class PartReader:
    """Reads the rows of parts. The row group of a part stays open, because the next part usually continues it.

    Args:
        schema: the columns to read; a column that a file lacks is filled with nulls.

    Raises DataSetError if a file was replaced after the job began.
    """

    def __init__(self, folder: Path, files: Sequence[InputFile], schema: pa.Schema) -> None:
        self._folder = folder
        self._sizes = {file.name: file.size for file in files}
        self._schema = schema
        self._group: tuple[str, int] | None = None
        self._start = 0  # in the group, of the next row
        self._rows: Iterator[pa.RecordBatch] = iter(())

    def read(self, part: Part) -> pa.Table:
        """The rows of a part."""
        if self._group != (part.file, part.group) or part.start < self._start:
            self._group, self._start, self._rows = (part.file, part.group), 0, self._open(part)
        end = part.start + part.rows
        rows = [*islice(self._rows, part.start - self._start, end - self._start)]
        if len(rows) < part.rows:
            raise _changed(self._folder / part.file)
        table = pa.Table.from_batches(rows)
        self._start = end
        return pa.concat_tables([self._schema.empty_table(), table], promote_options="default")

    def _open(self, part: Part) -> Iterator[pa.RecordBatch]:
        """The rows of a part's row group, one at a time."""
        path = self._folder / part.file
        if path.stat().st_size != self._sizes[part.file]:
            raise _changed(path)
        batches = read_batches(path, self._schema.names, part.rows, [part.group])
        return (batch.slice(row, 1) for batch in batches for row in range(batch.num_rows))


def _changed(path: Path) -> DataSetError:
    return DataSetError(f"{path} has changed while it was being labelled; restore it, or choose another OUTPUT")
