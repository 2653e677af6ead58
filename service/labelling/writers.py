"""What `mora-serve classify` writes: JSON lines, csv or parquet, row by row in the input's order."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import BinaryIO, Protocol

from model_store.items.labels import LABEL_SEPARATOR
from model_store.items.tables import SUFFIXES
from service.labelling.rows import COLUMNS, DataSetError
from service.labelling.sources import Columns, Kept, Source


class Writer(Protocol):
    """Takes rows as they are done."""

    def write(self, kept: Kept, answers: Sequence[dict[str, object]]) -> None:
        """The next rows: columns of the input, and the answers'."""

    def close(self) -> None:
        """No more rows."""


def check_output(output: Path, source: Path, force: bool) -> None:
    """Refuse an output that cannot be, is there, or is the input. Raises DataSetError."""
    if output.suffix.lower() not in SUFFIXES:
        raise DataSetError(f"{output} does not end in {', '.join(SUFFIXES)}, one of which it has to be")
    if output.is_dir() or not output.parent.is_dir():
        raise DataSetError(f"{output} is a folder" if output.is_dir() else f"there is no folder {output.parent}")
    if output.exists() and output.samefile(source):
        raise DataSetError(f"{output} is the input; choose another --output")
    if output.exists() and not force:
        raise DataSetError(f"{output} is there already; --force replaces it")
    if output.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401 - before the work, not after it
        except ModuleNotFoundError as error:
            raise DataSetError(f"{output} needs the extra parquet (pip install '.[parquet]'); {error}") from error


def open_writer(file: BinaryIO, kind: str, source: Source, columns: Columns) -> Writer:
    """A writer of `.csv`, `.jsonl` or `.parquet`. Raises DataSetError."""
    if kind == ".parquet":
        from service.labelling.parquet_files import ParquetWriter  # only now: it needs an extra

        return ParquetWriter(file, source, columns)
    return CsvWriter(file, columns.keep) if kind == ".csv" else JsonLinesWriter(file)


class JsonLinesWriter:
    """An object a line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, kept: Kept, answers: Sequence[dict[str, object]]) -> None:
        """The next rows."""
        for own, answer in zip(kept.plain(), answers, strict=True):
            line = json.dumps(_jsonable({**own, **answer}), ensure_ascii=False)
            self._file.write(line.encode(errors="backslashreplace") + b"\n")  # half a surrogate pair: as JSON spells it
        self._file.flush()

    def close(self) -> None:
        """Nothing is left."""


class CsvWriter:
    """A header and a line a row; nothing is an empty cell."""

    def __init__(self, file: BinaryIO, keep: Sequence[str]) -> None:
        self._file = file
        self._write([[*keep, *COLUMNS]])

    def write(self, kept: Kept, answers: Sequence[dict[str, object]]) -> None:
        """The next rows."""
        pairs = zip(kept.plain(), answers, strict=True)
        self._write([[_csv_cell(value) for value in {**own, **answer}.values()] for own, answer in pairs])

    def close(self) -> None:
        """Nothing is left."""

    def _write(self, lines: Sequence[Sequence[object]]) -> None:
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        self._file.write(text.getvalue().encode(errors="replace"))


def _csv_cell(value: object) -> object:
    if isinstance(value, list) and not any(isinstance(one, list | dict) for one in value):
        return LABEL_SEPARATOR.join("" if one is None else str(one) for one in value)
    return json.dumps(_jsonable(value), ensure_ascii=False) if isinstance(value, list | dict) else value


def _jsonable(value: object) -> object:
    """The same without what JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(name): _jsonable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(one) for one in value]
    return str(value)  # a time, a decimal
