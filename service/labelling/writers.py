"""The output of labelled rows as JSON lines, csv or parquet, in the order of the input."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from io import StringIO
from pathlib import Path
from typing import BinaryIO

from model_store.atomic_file import atomic_file
from model_store.items.labels import LABEL_SEPARATOR
from model_store.items.rows import Row
from model_store.items.tables import SUFFIXES, Table
from service.labelling.rows import Columns, DataSetError, KeptColumns, Write


def check_output(output: Path, source: Path, force: bool) -> None:
    """Refuse an output that exists, is the input, or cannot be written. Raises DataSetError."""
    if output.suffix.lower() not in SUFFIXES:
        raise DataSetError(f"{output} must end in one of {', '.join(SUFFIXES)}")
    if output.is_dir() or not output.parent.is_dir():
        raise DataSetError(f"{output} is a folder" if output.is_dir() else f"there is no folder {output.parent}")
    if output.exists() and output.samefile(source):
        raise DataSetError(f"{output} is the input; choose another --output")
    if output.exists() and not force:
        raise DataSetError(f"{output} exists; --force replaces it")
    if output.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401 - before the work, not after it
        except ModuleNotFoundError as error:
            raise DataSetError(
                f"{output} needs the extra parquet (pip install 'mora-serve[parquet]'); {error}"
            ) from error


@contextmanager
def open_output(output: Path | None, table: Table, columns: Columns) -> Iterator[Write]:
    """A function that writes the next rows to standard output, or to a file that appears once it is complete.

    Raises DataSetError if parquet cannot hold a column.
    """
    kind = ".jsonl" if output is None else output.suffix.lower()
    with nullcontext(sys.stdout.buffer) if output is None else atomic_file(output) as file:
        if kind == ".parquet":
            from service.labelling.parquet import kept_schema, open_parquet  # pyarrow is an extra

            with open_parquet(file, kept_schema(table, columns.keep), columns.answers) as write:
                yield write
        elif kind == ".csv":
            _write_lines(file, [[*columns.keep, *columns.answers]])
            yield partial(_write_csv, file)
        else:
            yield partial(_write_json_lines, file)


def plain_rows(kept: KeptColumns) -> list[Row]:
    """The kept columns as Python objects; U+FFFD replaces the bytes of a string that are not UTF-8."""
    if isinstance(kept, list):
        return kept
    from model_store.items.parquet_files import rows_of

    return rows_of(kept, invalid_text="replace")


def _write_json_lines(file: BinaryIO, kept: KeptColumns, answers: Sequence[Row]) -> None:
    for row, answer in zip(plain_rows(kept), answers, strict=True):
        line = _json({**row, **answer}).encode(errors="backslashreplace")  # half a surrogate pair: the escape of JSON
        file.write(line + b"\n")
    file.flush()


def _write_csv(file: BinaryIO, kept: KeptColumns, answers: Sequence[Row]) -> None:
    pairs = zip(plain_rows(kept), answers, strict=True)
    _write_lines(file, [[_csv_cell(value) for value in {**row, **answer}.values()] for row, answer in pairs])


def _write_lines(file: BinaryIO, lines: Sequence[Sequence[object]]) -> None:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    file.write(text.getvalue().encode(errors="replace"))


def _csv_cell(value: object) -> object:
    if isinstance(value, list) and not any(isinstance(element, list | dict | tuple) for element in value):
        elements = ["" if element is None else str(element) for element in value]
        if not any(LABEL_SEPARATOR in element for element in elements):
            return LABEL_SEPARATOR.join(elements)
    return _json(value) if isinstance(value, list | dict) else value


def _json(value: object) -> str:
    return json.dumps(_finite(value), ensure_ascii=False, default=str)  # str: a time or a decimal


def _finite(value: object) -> object:
    """The value with None for each number that JSON lacks."""
    if isinstance(value, dict):
        return {name: _finite(element) for name, element in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(element) for element in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
