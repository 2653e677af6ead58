"""Rows of csv and jsonl files in UTF-8, with or without a byte order mark."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from model_store.items.cells import is_missing
from model_store.items.invisible import without_invisible
from model_store.items.nesting import MAX_DEPTH, is_too_deep
from model_store.items.rows import Row, TableError, binary_fault, repeated_names

_DELIMITERS = ",;\t"
_SAMPLED_RECORDS = 20  # with which the delimiter is tried
_DECLARED = re.compile(r'"?sep=(\\t|\t|[^"\s])"?\s*', re.IGNORECASE)  # the line with which Excel is told the delimiter
_QUOTED = re.compile('"[^"]*"')
_MAX_CELL_CHARACTERS = 16_000_000  # the default limit of the csv module, 131,072, is too low for long texts


class _RepeatedKeyError(ValueError):
    """A JSON object with a key that occurs more than once."""


def csv_records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The first line number and the cells of each record; blank lines are left out.

    Raises:
        ValueError: a quote is not closed, a cell is too long, or a line has a null character; the message names the
            line.
    """
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    records = csv.reader(_lines(path), delimiter=delimiter, strict=True)
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
    """The names in the header, then the cells of each record.

    The delimiter is the one of a first line such as `sep=;`, else that of `,`, `;` and tab with which most of the first
    records fit the header. Every cell is text: a label 01 stays 01, and NA is an ordinary word. Columns without a name
    at the end, and their empty cells, are left out.

    Raises:
        ValueError: the file is empty, or a record has more or fewer cells than the header; the message names the line.
    """
    first = next((line for line in _lines(path) if line.strip()), "")
    declared = _DECLARED.fullmatch(first)
    delimiter = declared[1].replace("\\t", "\t") if declared else _likely_delimiter(path, _QUOTED.sub("", first))
    records = csv_records(path, delimiter)
    if declared:
        _header(records)  # the line that declares it
    names = _header(records)
    if not names:
        raise ValueError("it is empty; its first line must name the columns")
    yield names
    for line, cells in records:
        if not _fits(cells, names):
            counts = f"line {line} has {len(cells)} cells, the header {len(names)}"
            cure = f"give it a cell for each column, and put quotes around a cell that holds {delimiter!r}"
            if any(cell != cell.lstrip() and cell.lstrip().startswith('"') for cell in cells):
                cure = "remove the space before a quote that opens a cell"
            raise ValueError(f"{counts}; {cure}")
        yield cells[: len(names)]


def csv_rows(path: Path) -> Iterator[Row]:
    """The records of a csv file by column name. Raises ValueError."""
    records = csv_cells(path)
    names = next(records)
    return (dict(zip(names, cells, strict=True)) for cells in records)


def jsonl_rows(path: Path) -> Iterator[Row]:
    """The JSON object of each line that is not blank. Raises ValueError, with the line."""
    for number, line in enumerate(_lines(path), start=1):
        text = line.strip().removeprefix("\ufeff")  # a byte order mark, where one file was appended to another
        if not text:
            continue
        try:
            row = json.loads(text, object_pairs_hook=_object)
        except _RepeatedKeyError as error:
            raise ValueError(f"line {number} {error}") from error
        except RecursionError as error:
            raise _too_deep(number) from error
        except json.JSONDecodeError:
            row = None
        except ValueError as error:
            if text.startswith("{"):
                raise ValueError(f"line {number} has a number of too many digits; put it in quotes") from error
            row = None
        if is_too_deep(row):
            raise _too_deep(number)
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not a JSON object; write one {{...}} a line, without [ ] around them")
        yield row


def _header(records: Iterator[tuple[int, list[str]]]) -> list[str]:
    """The names in the first record that is not blank, up to the last name."""
    names = next(([*map(_name, cells)] for _, cells in records if any(map(str.strip, cells))), [])
    while names and not names[-1]:
        names.pop()
    return names


def _name(cell: str) -> str:
    return without_invisible(cell).strip()


def _fits(cells: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a record has a cell for each name, and no more that are not empty."""
    return len(cells) >= len(names) and all(map(is_missing, cells[len(names) :]))


def _likely_delimiter(path: Path, first_line: str) -> str:
    """The delimiter with which most of the first records fit the header; of equals, the most frequent one.

    Args:
        first_line: without its quoted cells.
    """
    return max(_DELIMITERS, key=lambda delimiter: (_fitting(path, delimiter), first_line.count(delimiter)))


def _fitting(path: Path, delimiter: str) -> int:
    """How many of the first records fit the header with this delimiter; -1 if it does not separate several names."""
    records = csv_records(path, delimiter)
    fitting = -1
    with suppress(ValueError):
        names = _header(records)
        if len(names) > 1:
            fitting = 0
            for _ in takewhile(lambda record: _fits(record[1], names), islice(records, _SAMPLED_RECORDS)):
                fitting += 1
    return fitting


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file, each with its end: CR, LF or both, but no other separator of Unicode. Raises ValueError."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, line in enumerate(file, start=1):
            if "\0" in line:
                if fault := binary_fault(path):
                    raise TableError(f"{path} {fault}")
                raise ValueError(f"line {number} has a null character, as text in UTF-16 has; save the file as UTF-8")
            yield line


def _too_deep(line: int) -> ValueError:
    return ValueError(f"line {line} is nested more than {MAX_DEPTH} levels deep; write its values less deep")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        repeated = repeated_names([name for name, _ in pairs])
        raise _RepeatedKeyError(f"has the key {repeated[0]!r} more than once; remove all but one")
    return row
