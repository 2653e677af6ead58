"""Rows of csv and jsonl files in UTF-8, with or without a byte order mark."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from model_store.items.rows import Row

_DELIMITERS = ",;\t"
_MAX_CELL_CHARACTERS = 16_000_000  # the default limit of the csv module, 131,072, is too low for long texts


def csv_records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The first line number and the cells of each record; blank lines are left out.

    Raises:
        ValueError: a quote is not closed, or a cell is too long; the message names the line.
    """
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = csv.reader(file, delimiter=delimiter, strict=True)
        line = 1
        try:
            for cells in records:
                if cells:
                    yield line, cells
                line = records.line_num + 1
        except csv.Error as error:
            cure = "close each quote that is opened, and double those within a cell"
            raise ValueError(f"line {line}: {error}; {cure}") from error


def csv_cells(path: Path) -> Iterator[list[str]]:
    """The names in the header, then the cells of each record; the delimiter is `,`, `;` or a tab.

    Every cell is text: a label 01 stays 01, and NA is an ordinary word.

    Raises:
        ValueError: the file is empty, or a record has more or fewer cells than the header; the message names the line.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next((line for line in file if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header.count)
    records = csv_records(path, delimiter)
    names = [name.strip() for _, cells in islice(records, 1) for name in cells]
    if not names:
        raise ValueError("it is empty; its first line must name the columns")
    yield names
    for line, cells in records:
        if len(cells) != len(names):
            counts = f"line {line} has {len(cells)} cells, the header {len(names)}"
            raise ValueError(f"{counts}; put quotes around a cell that holds {delimiter!r}")
        yield cells


def csv_rows(path: Path) -> Iterator[Row]:
    """The records of a csv file by column name. Raises ValueError."""
    records = csv_cells(path)
    names = next(records)
    return (dict(zip(names, cells, strict=True)) for cells in records)


def jsonl_rows(path: Path) -> Iterator[Row]:
    """The JSON object of each line that is not blank; only a newline ends a line. Raises ValueError, with the line."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.strip())
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is not a JSON object; write one {{...}} a line")
            yield row
