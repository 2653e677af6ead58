"""The rows of csv, jsonl and parquet files, and of folders of pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from model_store.items.folders import Skipped, folder_rows
from model_store.items.rows import Row, TableError, check_unique, table_errors
from model_store.items.text_files import csv_cells, csv_rows, jsonl_rows

if TYPE_CHECKING:
    from model_store.items.parquet_files import ParquetTable

Table: TypeAlias = "PlainTable | ParquetTable"
SUFFIXES = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class PlainTable:
    """Rows of a csv or jsonl file, or of a folder of pictures, as Python objects."""

    path: Path
    folder: Path  # relative paths of pictures start from it
    names: Sequence[str]  # of the columns, without duplicates
    rows: int
    read: Callable[[Path], Iterator[Row]]
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=Skipped)  # of a folder

    def chunks(self, columns: Collection[str], size: int) -> Iterator[list[Row]]:
        """These columns of all rows, `size` rows at a time; None for a cell that a row lacks. Raises TableError."""
        with table_errors(self.path):
            rows = self.read(self.path)
            while chunk := [{name: row.get(name) for name in columns} for row in islice(rows, size)]:
                yield chunk


def open_table(path: Path) -> Table:
    """The rows of a csv, jsonl or parquet file, or of a folder of pictures. A csv or jsonl file is checked to its end.

    Raises TableError, whose message names the file and the cure.
    """
    if path.is_dir():
        skipped = Skipped()
        pictures = folder_rows(path, skipped.add)
        return PlainTable(path, path, ["image", "label"], len(pictures), lambda _: iter(pictures), skipped=skipped)
    kind = path.suffix.lower()
    if not path.exists():
        raise TableError(f"there is no {path}; correct the path")
    if kind not in SUFFIXES:
        raise TableError(f"{path} is neither a folder of pictures nor a {', '.join(SUFFIXES)} file; convert it")
    if not path.is_file():
        raise TableError(f"{path} is read more than once, so it has to be a plain file")
    with table_errors(path):
        return {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}[kind](path)


def _csv(path: Path) -> Table:
    records = csv_cells(path)
    names = next(records)
    check_unique(path, names)
    return PlainTable(path, path.parent, names, sum(1 for _ in records), csv_rows)


def _jsonl(path: Path) -> Table:
    names: dict[str, None] = {}
    rows = 0
    for row in jsonl_rows(path):
        names |= dict.fromkeys(row)
        rows += 1
    return PlainTable(path, path.parent, list(names), rows, jsonl_rows)


def _parquet(path: Path) -> Table:
    try:
        from model_store.items.parquet_files import ParquetTable  # only now: pyarrow is an extra
    except ModuleNotFoundError as error:
        raise TableError(f"{path} needs the extra parquet (pip install 'mora-serve[parquet]'); {error}") from error
    return ParquetTable(path)
