"""Rows of parquet files; needs pyarrow."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model_store.items.cells import is_missing
from model_store.items.labels import class_names
from model_store.items.rows import Row, TableError, check_unique, table_errors

BUFFER_BYTES = 1 << 20  # with a buffer, a row group is never in memory as a whole
_ROWS_AT_ONCE = 1000
InvalidText = Literal["surrogateescape", "replace"]  # how a string that is not UTF-8 is decoded


class ParquetTable:
    """The rows of a parquet file. Raises TableError if the file is not parquet."""

    def __init__(self, path: Path) -> None:
        with _parquet_errors(path), pq.ParquetFile(path) as file:
            self.rows: int = file.metadata.num_rows
            schema = file.schema_arrow
        self.path, self.folder = path, path.parent
        self.schema: pa.Schema = schema.remove_metadata()
        self.names: Sequence[str] = schema.names
        self.binary: Sequence[str] = [field.name for field in schema if _has_bytes(field.type)]
        self.class_names: Mapping[str, Sequence[str]] = class_names(_features(schema))
        check_unique(path, self.names)

    def tables(self, columns: Collection[str], size: int) -> Iterator[pa.Table]:
        """These columns of all rows, `size` rows at a time. Raises TableError."""
        return (pa.Table.from_batches([batch]) for batch in read_batches(self.path, columns, size))

    def chunks(self, columns: Collection[str], size: int) -> Iterator[list[Row]]:
        """The same rows as Python objects. Raises TableError."""
        return map(rows_of, self.tables(columns, size))

    def is_empty(self, column: str) -> bool:
        """Whether every cell of a column is missing; pandas gives it a type of numbers. Raises TableError."""
        return all(is_missing(row[column]) for rows in self.chunks([column], _ROWS_AT_ONCE) for row in rows)


def read_batches(
    path: Path, columns: Collection[str], size: int, row_groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """These columns of a file, of those that it has, `size` rows at a time. Raises TableError if it is damaged."""
    with _parquet_errors(path), pq.ParquetFile(path, buffer_size=BUFFER_BYTES) as file:
        names = [name for name in file.schema_arrow.names if name in columns]
        for batch in file.iter_batches(size, row_groups=row_groups, columns=names):
            for column in batch.columns:
                _check_indices(column)
            yield batch


def rows_of(table: pa.Table, invalid_text: InvalidText = "surrogateescape") -> list[Row]:
    """The rows as Python objects; a time in nanoseconds, which Python lacks, becomes text.

    Args:
        invalid_text: parquet does not check that strings are UTF-8. `surrogateescape` keeps the bytes, so that a path
            still leads to its file and an invalid text is still recognised; `replace` inserts U+FFFD.
    """
    columns = [_cells(column, invalid_text) for column in table.columns]
    if not columns:
        return [{} for _ in range(table.num_rows)]
    return [dict(zip(table.column_names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _check_indices(array: pa.Array) -> None:
    """Refuse a number outside its dictionary, which pyarrow does not check as it reads. Raises ArrowException."""
    if isinstance(array, pa.DictionaryArray):
        numbers, size = pc.min_max(array.indices).as_py(), len(array.dictionary)
        if numbers["max"] is not None and (numbers["max"] >= size or numbers["min"] < 0):
            raise pa.ArrowInvalid(f"it has a number outside its dictionary of {size} values")
    elif isinstance(array, pa.StructArray):
        for part in array.flatten():
            _check_indices(part)
    elif isinstance(array, pa.MapArray):
        _check_indices(array.keys)
        _check_indices(array.items)
    elif isinstance(array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        _check_indices(array.flatten())


def _cells(column: pa.ChunkedArray, invalid_text: InvalidText) -> list[Any]:
    if pa.types.is_float32(column.type):  # as text it has the digits that it was written with, 0.1
        return [None if text is None else float(text) for text in column.cast(pa.string()).to_pylist()]
    try:
        return list(column.to_pylist())
    except ValueError:
        return [_cell(cell, invalid_text) for cell in column]


def _cell(cell: pa.Scalar, invalid_text: InvalidText) -> Any:  # noqa: ANN401
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        if isinstance(cell, pa.StructScalar):
            return {name: _cell(part, invalid_text) for name, part in cell.items()}
        if isinstance(cell, pa.ListScalar):
            return [_cell(part, invalid_text) for part in cell.values]
        return cell.cast(pa.binary()).as_py().decode(errors=invalid_text)
    except ValueError:
        return str(cell.cast(pa.string()))


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    with table_errors(path):
        try:
            yield
        except pa.ArrowException as error:
            raise TableError(f"{path} cannot be read as parquet: {error}; write it again") from error


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """The description of the columns by the `datasets` library, empty if another library wrote the file."""
    try:
        return dict(json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"])
    except (KeyError, TypeError, ValueError):
        return {}


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_bytes(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return kind.extension_name != "arrow.uuid" and _has_bytes(kind.storage_type)
    is_long = pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) or is_long
    return is_bytes or any(_has_bytes(kind.field(index).type) for index in range(kind.num_fields))
