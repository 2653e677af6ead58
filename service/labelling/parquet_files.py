"""Parquet files that `mora-serve classify` and `bulk` read; needs pyarrow (extra `parquet`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.api.item import Item
from service.errors import Code, ServiceError
from service.labelling.rows import DataSetError, Limits, item_of
from service.labelling.sources import Chunk, Columns, Row

BUFFER_BYTES = 1 << 20  # with a buffer, a row group is not in memory as a whole


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
            with pq.ParquetFile(self.path, buffer_size=BUFFER_BYTES) as file:
                for batch in file.iter_batches(size, columns=read):
                    yield chunk_of(pa.Table.from_batches([batch]), columns, self.path.parent, limits)
        except (OSError, pa.ArrowException) as error:
            raise DataSetError(f"{self.path} cannot be read as parquet: {error}") from error


def check_types(schema: pa.Schema, image: str | None, text: str | None) -> None:
    """Refuse columns that can hold no image, or no text. Raises DataSetError."""
    if image and not _may_hold(schema.field(image).type, (pa.types.is_string, pa.types.is_binary)):
        kinds = "bytes, a struct of bytes and path, or paths"
        raise DataSetError(f"the column {image} is {schema.field(image).type}; an image column holds {kinds}")
    if text and not _may_hold(schema.field(text).type, (pa.types.is_string,), structs=False):
        raise DataSetError(f"the column {text} is {schema.field(text).type}; a text column holds strings")


def _may_hold(kind: pa.DataType, scalars: tuple[Any, ...], structs: bool = True) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        own = {field.name for field in kind}
        return structs and bool(own & {"bytes", "path"})
    larger = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    kind = larger.get(kind, kind)
    return pa.types.is_null(kind) or any(is_kind(kind) for is_kind in scalars)


def chunk_of(table: pa.Table, columns: Columns, folder: Path, limits: Limits) -> Chunk:
    """Each row's item, or why it is none, as `POST /classify` would see it; and the kept columns."""
    nothing = [None] * table.num_rows
    images = table[columns.image] if columns.image else nothing
    texts = table[columns.text] if columns.text else nothing
    items = [_item(image, text, folder, limits) for image, text in zip(images, texts, strict=True)]
    return Chunk(items, TableRows(table.select(columns.keep)))


def _item(image: pa.Scalar | None, text: pa.Scalar | None, folder: Path, limits: Limits) -> Item | ServiceError:
    try:
        return item_of(_value(image), _value(text), folder, limits)
    except ServiceError as error:
        return error


def _value(scalar: pa.Scalar | None) -> object:
    try:
        return None if scalar is None else scalar.as_py()
    except UnicodeDecodeError as error:  # parquet does not check what calls itself a string
        raise ServiceError(Code.BAD_TEXT, "The text is not UTF-8.") from error


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
