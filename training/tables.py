"""Rows by column name, from parquet, csv, jsonl, an image folder or a hub data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from training.config import DataConfig
from training.errors import DataError

Row = dict[str, Any]


def read_rows(source: str, columns: DataConfig) -> tuple[Iterable[Row], Path]:
    """The rows of a source with the three configured columns, and the folder that relative paths start from.

    Raises:
        DataError: the source does not exist, is malformed, or lacks a column.
    """
    path = Path(source)
    if path.is_dir():
        return _from_datasets("imagefolder", columns, data_dir=source, split="train"), path
    if path.suffix in _READERS:
        if not path.is_file():
            raise DataError(f"{source} does not exist; mend data.train, data.validation or data.test")
        try:
            table = _READERS[path.suffix](path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{source} cannot be read as {path.suffix[1:]}: {error}") from error
        _check_columns(source, table.column_names, columns)
        return table.select([columns.image, columns.text, columns.label]).to_pylist(), path.parent
    if path.exists() or source.startswith((".", "/")):
        raise DataError(f"{source} is not a parquet, csv or jsonl file, nor a folder of images")
    name, _, split = source.partition(":")
    return _from_datasets(name, columns, split=split or "train"), Path()


def _csv(path: Path) -> pa.Table:
    # Every cell as text: a label 01 stays 01, and NA is a word like any other.
    with pa.csv.open_csv(path) as reader:
        types = dict.fromkeys(reader.schema.names, pa.string())
    return pa.csv.read_csv(
        path,
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(column_types=types, strings_can_be_null=False),
    )


_READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".parquet": pa.parquet.read_table,
    ".csv": _csv,
    ".jsonl": pa.json.read_json,
}


def _from_datasets(name: str, columns: DataConfig, **options: str) -> list[Row]:
    import datasets  # slow to import, and most tasks read a file

    try:
        found = datasets.load_dataset(name, **options)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        where = options.get("data_dir", name)
        raise DataError(f"{where} is neither an image folder nor a data set the hub could give: {error}") from error
    for column, feature in list(found.features.items()):
        if isinstance(feature, datasets.Image):
            found = found.cast_column(column, datasets.Image(decode=False))
    _check_columns(name, found.column_names, columns)
    feature = found.features[columns.label]
    names = feature.names if isinstance(feature, datasets.ClassLabel) else None
    text = columns.text if columns.text in found.column_names else None
    return [
        {
            columns.image: row[columns.image],
            columns.text: row[text] if text else None,
            columns.label: names[row[columns.label]] if names else row[columns.label],
        }
        for row in found
    ]


def _check_columns(source: str, there: list[str], columns: DataConfig) -> None:
    for field in ("image", "text", "label"):
        name = getattr(columns, field)
        if name not in there:
            raise DataError(f"{source} has no column {name!r}; it has {', '.join(there)}: set data.{field}")
