"""Rows by column name, from parquet, csv, jsonl, an image folder or a hub data set."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from model_store.messages import describe_os_error
from training.config import DataConfig
from training.data.files import encoding_fault
from training.errors import DataError

Row = dict[str, Any]
_MAX_LISTED = 10


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
    kind = path.suffix.lower()
    if kind in _READERS:
        if not path.is_file():
            raise DataError(f"{source} does not exist; mend data.train, data.validation or data.test")
        names, rows = read_table(path, {columns.image, columns.text, columns.label})
        return _select(source, names, rows, columns), path.parent
    if path.exists() or source.startswith((".", "/")):
        problem = "is not a parquet, csv or jsonl file, nor a folder of images; save it as one of these"
        raise DataError(f"{source} {problem if path.exists() else 'does not exist; mend the path'}")
    name, _, split = source.partition(":")
    found = _from_datasets(name, split=split or "train")
    return _select(name, found.column_names, found, columns), Path()


Table = tuple[list[str], list[Row]]  # column names, rows


def read_table(path: Path, wanted: set[str | None]) -> Table:
    """Column names, and rows with at least the wanted columns, of a parquet, csv or jsonl file. Raises DataError."""
    kind = path.suffix.lower()
    try:
        return _READERS[kind](path, wanted)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} {encoding_fault(path)}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read as {kind[1:]}: {describe_os_error(error)}") from error
    except pa.ArrowException as error:
        raise DataError(f"{path} cannot be read as {kind[1:]}: {error}; write it again") from error
    except ValueError as error:
        raise DataError(f"{path} cannot be read as {kind[1:]}: {error}") from error


def listed(lines: Sequence[str]) -> str:
    """The first ten, indented, one a line, and how many more there are."""
    more = [f"and {len(lines) - _MAX_LISTED:,} more"] if len(lines) > _MAX_LISTED else []
    return "\n".join(f"  {line}" for line in [*lines[:_MAX_LISTED], *more])


def _parquet(path: Path, wanted: set[str | None]) -> Table:
    with pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        return names, file.read(columns=[name for name in names if name in wanted]).to_pylist()


def _csv(path: Path, _: set[str | None]) -> Table:
    """Every cell as text: a label 01 stays 01, and NA is a word like any other. `,`, `;` and tab part the cells."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        rows, begun = [], 1  # the line that a row begins in, which may have several
        delimiter = max(",;\t", key=header.count)
        file.seek(0)
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            names = [name.strip() for name in next(lines, [])]
            begun = lines.line_num + 1
            for cells in lines:
                rows += [_csv_row(names, cells, begun)] if cells else []
                begun = lines.line_num + 1
        except csv.Error as error:
            cure = "close each quote that is opened, and double those within a cell"
            raise ValueError(f"line {begun}: {error}; {cure}") from error
    if not names:
        raise ValueError("it is empty; its first line must name the columns")
    return names, rows


def _csv_row(names: list[str], cells: list[str], line: int) -> Row:
    if len(cells) != len(names):
        raise ValueError(f"line {line} has {len(cells)} cells, the header {len(names)}; put quotes around commas")
    return dict(zip(names, cells, strict=True))


def _jsonl(path: Path, _: set[str | None]) -> Table:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip():
            try:
                rows.append(dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                raise ValueError(f"line {number} is not a JSON object; write one {{...}} a line") from error
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [{name: row.get(name) for name in names} for row in rows]


_READERS: dict[str, Callable[[Path, set[str | None]], Table]] = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}


def _from_datasets(name: str, **options: str) -> Any:  # noqa: ANN401 - a datasets.Dataset, which has no types
    import datasets  # slow to import, and most tasks read a file

    try:
        found = datasets.load_dataset(name, **options)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        where = options.get("data_dir", name)
        cure = "mend the path in data.train, or check the name, the network and HF_HUB_OFFLINE"
        problem = f"{where} is neither an image folder nor a data set the hub could give ({error})"
        raise DataError(f"{problem}; {cure}") from error
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
        if there.count(name or "") > 1:
            raise DataError(f"{source} has several columns {name!r}; rename all but one")
        if name is not None and name not in there:
            cure = f"set data.{field}" + ("" if field == "label" else ", to null if there is none")
            raise DataError(f"{source} has no column {name!r}; it has {', '.join(there)}: {cure}")
    return [{field: row[name] if name is not None else None for field, name in wanted.items()} for row in rows]
