"""Columns of parquet: the types of an input are checked, and labelled rows are written; needs pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from model_store.items.rows import Row, TableError
from model_store.items.tables import PlainTable, Table
from service.labelling.rows import Columns, DataSetError, KeptColumns, Write

_TEXTS = (pa.null(), pa.string(), pa.large_string(), pa.string_view())
_PICTURES = (*_TEXTS, pa.binary(), pa.large_binary(), pa.binary_view())
_ANSWER_TYPES = {
    "predicted_score": pa.float64(),
    "selected_labels": pa.list_(pa.string()),
    "top_labels": pa.list_(pa.string()),
    "top_scores": pa.list_(pa.float64()),
    "modalities": pa.struct([("image", pa.string()), ("text", pa.string())]),
    "label_set": pa.list_(pa.string()),
    "review": pa.bool_(),
    "embedding": pa.list_(pa.float32()),
}
CHUNK_ROWS = 1000


def check_types(schema: pa.Schema, columns: Columns, is_empty: Callable[[str], bool]) -> None:
    """Refuse an image column or a text column of an unsuitable type, unless all its cells are missing.

    Raises DataSetError.
    """
    if (
        columns.image
        and not _may_hold_pictures(kind := schema.field(columns.image).type)
        and not is_empty(columns.image)
    ):
        kinds = "bytes, a struct of bytes and path, or paths"
        raise DataSetError(f"the column {columns.image} is {kind}; an image column holds {kinds}")
    if (
        columns.text
        and _value_type(kind := schema.field(columns.text).type) not in _TEXTS
        and not is_empty(columns.text)
    ):
        raise DataSetError(f"the column {columns.text} is {kind}; a text column holds strings")


def kept_schema(table: Table, keep: Sequence[str]) -> pa.Schema:
    """The types of the kept columns; a column of csv or JSON lines has the type that holds all its values.

    Raises DataSetError if a column has no such type, or TableError.
    """
    if not isinstance(table, PlainTable):
        return pa.schema([table.schema.field(name).with_nullable(True) for name in keep])
    if not keep:
        return pa.schema([])
    try:
        schema = pa.schema([(name, pa.null()) for name in keep])
        for rows in table.chunks(keep, CHUNK_ROWS):
            schema = pa.unify_schemas([schema, pa.Table.from_pylist(rows).schema], promote_options="permissive")
        for rows in table.chunks(keep, CHUNK_ROWS):
            pa.Table.from_pylist(rows, schema)  # a column of fractions cannot hold every whole number
        pq.ParquetWriter(BytesIO(), schema).close()  # nor parquet every type: a struct needs a field
    except TableError:
        raise
    except (pa.ArrowException, ValueError, OverflowError) as error:
        cure = "write .jsonl, or leave the column out with --keep"
        raise DataSetError(f"{table.path} has a column that parquet cannot hold ({error}); {cure}") from error
    return schema


def answer_schema(columns: Sequence[str]) -> pa.Schema:
    """The types of the columns of the answers."""
    return pa.schema([(name, _ANSWER_TYPES.get(name, pa.string())) for name in columns])


@contextmanager
def open_parquet(file: BinaryIO, kept: pa.Schema, columns: Sequence[str]) -> Iterator[Write]:
    """A function that writes the next rows: the kept columns, then those of the answers."""
    answer = answer_schema(columns)
    with pq.ParquetWriter(file, pa.schema([*kept, *answer])) as writer:

        def write(rows: KeptColumns, answers: Sequence[Row]) -> None:
            left = pa.Table.from_pylist(rows, kept) if isinstance(rows, list) else rows.cast(kept)
            right = pa.Table.from_pylist(list(answers), answer)
            writer.write_table(pa.Table.from_arrays([*left.columns, *right.columns], schema=writer.schema))

        yield write


def _may_hold_pictures(kind: pa.DataType) -> bool:
    kind = _value_type(kind)
    return kind in _PICTURES or (pa.types.is_struct(kind) and any(field.name in ("bytes", "path") for field in kind))


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
