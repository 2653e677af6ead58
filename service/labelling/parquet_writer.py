"""Labelled rows written as parquet; needs pyarrow (extra `parquet`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from model_store.items.rows import Row
from model_store.items.tables import PlainTable, Table
from service.labelling.rows import COLUMNS, DataSetError
from service.labelling.sources import KeptColumns
from service.labelling.writers import Write

_KINDS = {
    "predicted_score": pa.float64(),
    "selected_labels": pa.list_(pa.string()),
    "top_labels": pa.list_(pa.string()),
    "top_scores": pa.list_(pa.float64()),
    "modalities": pa.struct([("image", pa.string()), ("text", pa.string())]),
}
ANSWER = pa.schema([(name, _KINDS.get(name, pa.string())) for name in COLUMNS])
CHUNK_ROWS = 1000


@contextmanager
def open_parquet(file: BinaryIO, schema: pa.Schema) -> Iterator[Write]:
    """A function that writes the next rows; `schema` is of the kept columns, which the answers follow."""
    with pq.ParquetWriter(file, pa.schema([*schema, *ANSWER])) as writer:

        def write(kept: KeptColumns, answers: Sequence[Row]) -> None:
            left = pa.Table.from_pylist(kept, schema) if isinstance(kept, list) else kept.cast(schema)
            right = pa.Table.from_pylist(list(answers), ANSWER)
            writer.write_table(pa.Table.from_arrays([*left.columns, *right.columns], schema=writer.schema))

        yield write


def kept_schema(table: Table, keep: Sequence[str]) -> pa.Schema:
    """The types of the kept columns; a column of csv or JSON lines has the type that holds all its values.

    Raises DataSetError if a column has no such type, or TableError.
    """
    if not isinstance(table, PlainTable):
        return pa.schema([table.schema.field(name).with_nullable(True) for name in keep])
    schema = pa.schema([(name, pa.null()) for name in keep])
    for rows in table.chunks(keep, CHUNK_ROWS) if keep else ():
        try:
            schema = pa.unify_schemas([schema, pa.Table.from_pylist(rows).schema], promote_options="permissive")
        except (pa.ArrowException, ValueError, OverflowError) as error:
            cure = "write .jsonl, or leave the column out with --keep"
            raise DataSetError(f"{table.path} has a column that parquet cannot hold ({error}); {cure}") from error
    return schema
