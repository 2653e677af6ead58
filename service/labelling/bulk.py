"""`mora-serve bulk`: a parquet data set labelled part by part, each a file that appears once it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from model_store.atomic_file import atomic_file
from service.labelling.answerers import StoreAnswerer, label_rows, open_store
from service.labelling.data_set import PartReader
from service.labelling.job import Part, locked, part_name, resume
from service.labelling.parquet_writer import open_parquet
from service.labelling.planning import BulkOptions, Plan, check_paths, make_plan, manifest_digest
from service.labelling.progress import RowCounts, RowProgress
from service.labelling.rows import Columns, DataSetError
from service.labelling.sources import chunk_of
from service.settings import Settings


class LabelledPart(NamedTuple):
    """A part whose file is written."""

    number: int
    rows: int
    failed: int  # rows with an error


Executor: TypeAlias = Callable[[Plan, Sequence[Part]], Iterator[LabelledPart]]


def label_data_set(options: BulkOptions, settings: Settings, executor: Executor, console: Console) -> RowCounts:
    """Label the parts that are not labelled yet; returns the counts of the whole output.

    Raises:
        DataSetError, StoreError, RefusedError, TableError: the job cannot resume, or cannot be finished.
    """
    check_paths(options)
    options.output.mkdir(parents=True, exist_ok=True)
    with locked(options.output):
        with console.status("reading the input"):
            plan = make_plan(options, settings)
        parts, total = resume(plan.job, options.output), len(plan.job.parts())
        if len(parts) < total:
            console.print(f"{total - len(parts)} of {total} parts are done already; labelling the others")
        if parts:
            with RowProgress(sum(part.rows for part in parts), console) as progress:
                for part in executor(plan, parts):
                    progress.advance(part.rows, part.failed)
        return _count_rows(options.output, total)


def label_here(plan: Plan, parts: Sequence[Part]) -> Iterator[LabelledPart]:
    """Label the parts in this process. Raises DataSetError, StoreError or RefusedError."""
    with closing(PartLabeller(plan)) as labeller:
        for part in parts:
            yield labeller.label(part)


class PartLabeller:
    """Labels parts in this process, with the version of the job loaded once.

    Raises StoreError, RefusedError or DataSetError if the store does not have the version that the job began with.
    """

    def __init__(self, plan: Plan) -> None:
        job, store = plan.job, open_store(plan.settings)
        if manifest_digest(store, job.task, job.version) != job.manifest_sha256:
            raise DataSetError(f"{store.root} has another {job.task} version {job.version} than the job began with")
        self._plan, self._part_count = plan, len(job.parts())
        self._columns = Columns(job.image_column, job.text_column, job.keep)
        self._kept_schema = pa.schema([plan.schema.field(name) for name in job.keep])
        self._reader = PartReader(plan.folder, job.files, plan.schema)
        self._answerer = StoreAnswerer(store, plan.settings, job.task, job.version)

    def label(self, part: Part) -> LabelledPart:
        """Write the file of a part."""
        job = self._plan.job
        folder = (self._plan.folder / part.file).parent
        chunk = chunk_of(self._reader.read(part), self._columns, folder, job.limits)
        rows = label_rows(chunk.items, self._answerer, job.top_k)
        path = self._plan.output / part_name(part.number, self._part_count)
        with atomic_file(path) as file, open_parquet(file, self._kept_schema) as write:
            write(chunk.kept, rows)
        return LabelledPart(part.number, len(rows), RowCounts().add(rows))

    def close(self) -> None:
        """End the threads."""
        self._answerer.close()


def _count_rows(output: Path, parts: int) -> RowCounts:
    counts = RowCounts()
    for number in range(parts):
        path = output / part_name(number, parts)
        counts.add(pq.read_table(path, columns=["error", "detail"], partitioning=None).to_pylist())
    return counts
