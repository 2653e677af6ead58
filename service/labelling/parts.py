"""One part of a bulk job: read, labelled and written, by a worker that has the model loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from model_store import Store, blob_of
from model_store.atomic_file import atomic_file
from model_store.items.parquet_files import rows_of
from service.api.item import Item
from service.errors import ServiceError
from service.labelling.job import InputFile, Job, Part, part_name
from service.labelling.labeller import Labeller, open_store
from service.labelling.rows import COLUMNS, DataSetError, answer_row, items_of
from service.settings import Settings

_MODALITIES = pa.struct([("image", pa.string()), ("text", pa.string())])
_KINDS = {
    "predicted_score": pa.float64(),
    "selected_labels": pa.list_(pa.string()),
    "top_labels": pa.list_(pa.string()),
    "top_scores": pa.list_(pa.float64()),
    "modalities": _MODALITIES,
}
ANSWER = pa.schema([(name, _KINDS.get(name, pa.string())) for name in COLUMNS])


class Labelled(NamedTuple):
    """What became of a part."""

    number: int
    rows: int
    failed: int  # rows with an error


class PartLabeller:
    """A worker: the version of a job, loaded once, and the row group it is reading.

    Args:
        schema: of the columns read, which all files are brought to.

    Raises StoreError, RefusedError or DataSetError where this worker's store has not what the job began with.
    """

    def __init__(self, job: Job, source: Path, output: Path, schema: pa.Schema, settings: Settings) -> None:
        store = open_store(settings)
        if digest_of(store, job.task, job.version) != job.manifest_sha256:
            raise DataSetError(f"{store.root} has another {job.task} version {job.version} than the job began with")
        self._job, self._output = job, output
        self._parts = job.parts()
        self._rows = RowReader(source, job.files, schema)
        self._labeller = Labeller(store, settings, job.task, job.version)

    def label(self, number: int) -> Labelled:
        """Make one file of the output."""
        part = self._parts[number]
        table = self._rows.read(part)
        answers = self._labeller.label(self._items_of(table, part))
        rows = [answer_row(answer, self._job.top_k) for answer in answers]
        with atomic_file(self._output / part_name(number, len(self._parts))) as file:
            pq.write_table(with_answers(table.select(self._job.keep), rows), file)
        return Labelled(number, part.rows, sum(row["error"] is not None for row in rows))

    def close(self) -> None:
        """End the threads."""
        self._labeller.close()

    def _items_of(self, table: pa.Table, part: Part) -> list[Item | ServiceError]:
        job = self._job
        rows = rows_of(table.select([*filter(None, (job.image_column, job.text_column))]))
        return items_of(rows, job.image_column, job.text_column, self._rows.folder_of(part), job.limits)


class RowReader:
    """Rows of parquet files; a row group stays open where it was left, since the next part is often the next rows.

    Raises DataSetError where a file was replaced after the job began.
    """

    def __init__(self, source: Path, files: Sequence[InputFile], schema: pa.Schema) -> None:
        self._source = source
        self._sizes = {file.name: file.size for file in files}
        self._schema = schema
        self._group: tuple[str, int] | None = None
        self._row = 0  # the next one of the group
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None

    def folder_of(self, part: Part) -> Path:
        """What the paths in a part's image column are relative to."""
        return (self._source / part.file).parent

    def read(self, part: Part) -> pa.Table:
        """The rows of a part, a column that its file lacks filled with nulls."""
        if self._group != (part.file, part.group) or part.start < self._row:
            self._open(part)
        for _ in self._next(part.start - self._row, part.rows):  # another worker's
            pass
        table = pa.Table.from_batches(self._next(part.rows, part.rows))
        columns = [
            table[field.name].cast(field.type)
            if field.name in table.column_names
            else pa.nulls(table.num_rows, field.type)
            for field in self._schema
        ]
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _open(self, part: Part) -> None:
        path = self._source / part.file
        if path.stat().st_size != self._sizes[part.file]:
            raise DataSetError(f"{path} has changed while it was being labelled; restore it, or choose another OUTPUT")
        file = pq.ParquetFile(path, buffer_size=1 << 20)  # with a buffer, a row group is not in memory as a whole
        columns = [name for name in self._schema.names if name in file.schema_arrow.names]
        self._batches = file.iter_batches(part.rows, row_groups=[part.group], columns=columns)
        self._group, self._row, self._rest = (part.file, part.group), 0, None

    def _next(self, rows: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """So many rows from where the reader is, in pieces."""
        end = self._row + rows
        while self._row < end:
            if self._rest is None or not self._rest.num_rows:
                self._rest = next(self._batches)
            piece = self._rest.slice(0, end - self._row)
            self._rest = self._rest.slice(piece.num_rows)
            self._row += piece.num_rows
            yield piece


def digest_of(store: Store, task: str, version: int) -> str:
    """SHA-256 of a version's manifest. Raises StoreError."""
    return blob_of(store.read_manifest(task, version)[1]).sha256


def with_answers(table: pa.Table, rows: Sequence[dict[str, object]]) -> pa.Table:
    """The table with the answers' columns behind its own."""
    for column, field in zip(pa.Table.from_pylist(list(rows), schema=ANSWER).columns, ANSWER, strict=True):
        table = table.append_column(field, column)
    return table
