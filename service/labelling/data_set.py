"""A parquet data set: its files, the schema they share, and the rows of one part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model_store.items.parquet_files import ParquetTable
from service.labelling.job import InputFile, Part
from service.labelling.rows import Columns, DataSetError

_BUFFER_BYTES = 1 << 20  # with a buffer, a row group is not in memory as a whole


def parquet_files(source: Path) -> tuple[Path, list[str]]:
    """The folder of the input, and its files relative to it in order. Raises DataSetError."""
    if source.is_file():
        return source.parent, [source.name]
    paths = [path.relative_to(source) for path in source.rglob("*.parquet") if path.is_file()]
    names = sorted(str(path) for path in paths if not any(part.startswith((".", "_")) for part in path.parts))
    if not names:
        raise DataSetError(f"{source} is neither a parquet file nor a folder with *.parquet in it")
    return source, names


def read_input_file(folder: Path, name: str) -> InputFile:
    """A file's digest and row groups; reads the whole file. Raises DataSetError if it is not parquet."""
    path = folder / name
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with pq.ParquetFile(path) as file:
            metadata = file.metadata
            rows = tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    except (OSError, pa.ArrowException) as error:
        raise DataSetError(f"{path} cannot be read as parquet: {error}; write it again, or remove it") from error
    return InputFile(name=name, size=path.stat().st_size, sha256=sha256, group_rows=rows)


def common_schema(folder: Path, names: Sequence[str]) -> pa.Schema:
    """The columns of all files. Raises DataSetError if files differ in the type of a column, or TableError."""
    schema = pa.schema([])
    for name in names:
        own = [field.with_nullable(True) for field in ParquetTable(folder / name).schema]
        try:
            schema = pa.unify_schemas([schema, pa.schema(own)])
        except pa.ArrowException as error:
            raise DataSetError(
                f"{folder / name} has a column of another type than earlier files: {error}; write it with their types"
            ) from error
    return schema


def check_types(schema: pa.Schema, columns: Columns) -> None:
    """Refuse an image column or a text column of an unsuitable type. Raises DataSetError."""
    image, text = columns.image, columns.text
    if image and not _may_hold(schema.field(image).type, (pa.types.is_string, pa.types.is_binary), structs=True):
        kinds = "bytes, a struct of bytes and path, or paths"
        raise DataSetError(f"the column {image} is {schema.field(image).type}; an image column holds {kinds}")
    if text and not _may_hold(schema.field(text).type, (pa.types.is_string,), structs=False):
        raise DataSetError(f"the column {text} is {schema.field(text).type}; a text column holds strings")


def _may_hold(kind: pa.DataType, scalars: tuple[Any, ...], structs: bool) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        return structs and any(field.name in ("bytes", "path") for field in kind)
    larger = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    kind = larger.get(kind, kind)
    return pa.types.is_null(kind) or any(is_kind(kind) for is_kind in scalars)


class PartReader:
    """Reads the rows of parts. The current row group stays open, because the next part usually has its next rows.

    Args:
        schema: of the columns to read; a column that a file lacks is filled with nulls.

    Raises DataSetError if a file was replaced after the job began.
    """

    def __init__(self, folder: Path, files: Sequence[InputFile], schema: pa.Schema) -> None:
        self._folder = folder
        self._sizes = {file.name: file.size for file in files}
        self._schema = schema
        self._group: tuple[str, int] | None = None
        self._row = 0  # the next one of the group
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._batch: pa.RecordBatch | None = None  # what is left of it

    def read(self, part: Part) -> pa.Table:
        """The rows of a part."""
        if self._group != (part.file, part.group) or part.start < self._row:
            self._open(part)
        for _ in self._next(part.start - self._row):  # rows of another worker's parts
            pass
        table = pa.Table.from_batches(self._next(part.rows))
        columns = [
            table[field.name].cast(field.type)
            if field.name in table.column_names
            else pa.nulls(table.num_rows, field.type)
            for field in self._schema
        ]
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _open(self, part: Part) -> None:
        path = self._folder / part.file
        if path.stat().st_size != self._sizes[part.file]:
            raise DataSetError(f"{path} has changed while it was being labelled; restore it, or choose another OUTPUT")
        file = pq.ParquetFile(path, buffer_size=_BUFFER_BYTES)
        columns = [name for name in self._schema.names if name in file.schema_arrow.names]
        self._batches = file.iter_batches(part.rows, row_groups=[part.group], columns=columns)
        self._group, self._row, self._batch = (part.file, part.group), 0, None

    def _next(self, rows: int) -> Iterator[pa.RecordBatch]:
        """The next rows of the group, in pieces."""
        end = self._row + rows
        while self._row < end:
            if self._batch is None or not self._batch.num_rows:
                self._batch = next(self._batches)
            piece = self._batch.slice(0, end - self._row)
            self._batch = self._batch.slice(piece.num_rows)
            self._row += piece.num_rows
            yield piece
