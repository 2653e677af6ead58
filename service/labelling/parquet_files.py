"""The parquet file that `mora-serve classify` writes; needs the extra `parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from service.labelling.parts import ANSWER, with_answers
from service.labelling.rows import DataSetError
from service.labelling.sources import Columns, Kept, ParquetSource, Source, TableRows

_ROWS_AT_ONCE = 1000


class ParquetWriter:
    """A parquet file of kept columns and answers; types of columns from csv and jsonl are those of all their values.

    Raises DataSetError where a kept column has none.
    """

    def __init__(self, file: BinaryIO, source: Source, columns: Columns) -> None:
        self._schema = _schema(source, columns.keep)
        self._writer = pq.ParquetWriter(file, pa.schema([*self._schema, *ANSWER]))

    def write(self, kept: Kept, answers: Sequence[dict[str, object]]) -> None:
        """The next rows."""
        if not self._schema.names:
            table = pa.Table.from_pylist(list(answers), schema=ANSWER)
        elif isinstance(kept, TableRows):
            table = with_answers(kept.table.cast(self._schema), answers)
        else:
            table = with_answers(pa.Table.from_pylist(kept.plain(), schema=self._schema), answers)
        self._writer.write_table(table)

    def close(self) -> None:
        """What ends a parquet file."""
        self._writer.close()


def _schema(source: Source, keep: Sequence[str]) -> pa.Schema:
    if isinstance(source, ParquetSource):
        return pa.schema([source.schema.field(name).with_nullable(True) for name in keep])
    schema = pa.schema([(name, pa.null()) for name in keep])
    try:
        for rows in source.kept(keep, _ROWS_AT_ONCE) if keep else ():
            own = pa.Table.from_pylist(rows).schema
            schema = pa.unify_schemas([schema, own], promote_options="permissive")
    except (pa.ArrowException, ValueError, OverflowError) as error:
        cure = "write .jsonl, or leave the column out with --keep"
        raise DataSetError(f"{source.path} has what a column of parquet cannot hold ({error}); {cure}") from error
    return schema
