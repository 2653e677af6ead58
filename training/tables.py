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


def read_rows(source: str, columns: DataConfig) -> tuple[list[Row], Path]:
    """The rows of a source as `image`, `text` and `label`, and the folder that relative paths start from.

    Raises:
        DataError: the source does not exist, is malformed, or lacks a column.
    """
    path = Path(source)
    if path.is_dir():
        found = _from_datasets("imagefolder", data_dir=source, split="train")
        if columns.text not in found.column_names:  # a plain image folder has no texts
            columns = columns.model_copy(update={"text": None})
        return _select(source, found.column_names, found, columns), path
    if path.suffix in _READERS:
        if not path.is_file():
            raise DataError(f"{source} does not exist; mend data.train, data.validation or data.test")
        try:
            table = _READERS[path.suffix](path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{source} cannot be read as {path.suffix[1:]}: {error}") from error
        return _select(source, table.column_names, table.to_pylist(), columns), path.parent
    if path.exists() or source.startswith((".", "/")):
        raise DataError(f"{source} is not a parquet, csv or jsonl file, nor a folder of images")
    name, _, split = source.partition(":")
    found = _from_datasets(name, split=split or "train")
    return _select(name, found.column_names, found, columns), Path()


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


def _from_datasets(name: str, **options: str) -> Any:  # noqa: ANN401 - a datasets.Dataset, which has no types
    import datasets  # slow to import, and most tasks read a file

    try:
        found = datasets.load_dataset(name, **options)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        where = options.get("data_dir", name)
        raise DataError(f"{where} is neither an image folder nor a data set the hub could give: {error}") from error
    for column, feature in list(found.features.items()):
        if isinstance(feature, datasets.Image):
            found = found.cast_column(column, datasets.Image(decode=False))
        elif isinstance(feature, datasets.ClassLabel):
            names = [feature.names[number] for number in found[column]]
            found = found.remove_columns(column).add_column(column, names)
    return found


def _select(source: str, there: list[str], rows: Iterable[Row], columns: DataConfig) -> list[Row]:
    wanted = {"image": columns.image, "text": columns.text, "label": columns.label}
    for field, name in wanted.items():
        if name is not None and name not in there:
            cure = f"set data.{field}" + ("" if field == "label" else ", to null if there is none")
            raise DataError(f"{source} has no column {name!r}; it has {', '.join(there)}: {cure}")
    return [{field: row[name] if name is not None else None for field, name in wanted.items()} for row in rows]
