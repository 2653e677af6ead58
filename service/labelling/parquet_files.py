"""Parquet files that `mora-serve classify` reads and writes; needs the extra `parquet`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from service.labelling.parts import ANSWER, items_of, with_answers
from service.labelling.planning import check_types
from service.labelling.rows import DataSetError, Limits
from service.labelling.sources import Chunk, Columns, Kept, Row, Source

_BUFFER_BYTES = 1 << 20  # with a buffer, a row group is not in memory as a whole
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class TableRows:
    """Columns of a parquet file."""

    table: pa.Table

    def plain(self) -> list[Row]:
        """Row by row; what calls itself a string and is no UTF-8 gets U+FFFD."""
        columns = [[_plain(cell) for cell in column] for column in self.table.columns]
        return [dict(zip(self.table.column_names, cells, strict=True)) for cells in zip(*columns, strict=True)] or [
            {} for _ in range(self.table.num_rows)
        ]


class ParquetSource:
    """The rows of a parquet file. Raises DataSetError where it is none."""

    def __init__(self, path: Path) -> None:
        try:
            with pq.ParquetFile(path) as file:
                self.rows: int = file.metadata.num_rows
                self.schema: pa.Schema = file.schema_arrow.remove_metadata()
        except (OSError, pa.ArrowException) as error:
            raise DataSetError(f"{path} cannot be read as parquet: {error}") from error
        self.path = path
        self.names: Sequence[str] = self.schema.names
        self.binary: Sequence[str] = [field.name for field in self.schema if _has_bytes(field.type)]

    def check_types(self, image: str | None, text: str | None) -> None:
        """Refuse columns that can hold no image, or no text. Raises DataSetError."""
        check_types(self.schema, image, text)

    def chunks(self, columns: Columns, limits: Limits, size: int) -> Iterator[Chunk]:
        """All rows, so many at a time. Raises DataSetError."""
        read = [name for name in self.names if name in {*columns.keep, columns.image, columns.text}]
        try:
            with pq.ParquetFile(self.path, buffer_size=_BUFFER_BYTES) as file:
                for batch in file.iter_batches(size, columns=read):
                    table = pa.Table.from_batches([batch])
                    items = items_of(table, columns.image, columns.text, self.path.parent, limits)
                    yield Chunk(items, TableRows(table.select(columns.keep)))
        except (OSError, pa.ArrowException) as error:
            raise DataSetError(f"{self.path} cannot be read as parquet: {error}") from error


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


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_bytes(kind.value_type)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return is_bytes or any(_has_bytes(kind.field(place).type) for place in range(kind.num_fields))


def _plain(cell: pa.Scalar) -> Any:  # noqa: ANN401
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return cell.cast(pa.binary()).as_py().decode(errors="replace")
    except ValueError:  # nanoseconds, which Python's own times have none of
        return str(cell.cast(pa.string()))
