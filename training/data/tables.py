"""Rows by field, from a file, an image folder or a hub data set."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_store import Problem
from model_store.items.cells import existing
from model_store.items.folders import Skipped
from model_store.items.labels import class_names, with_names
from model_store.items.rows import Row, TableError, column_named
from model_store.items.tables import SUFFIXES, PlainTable, Table, open_table
from model_store.messages import printable
from training.config import DataConfig
from training.data.image_folders import metadata_file, rows_with_class, unlisted_pictures
from training.errors import DataError

_MAX_LISTED = 10
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Source:
    """The rows of a source as `image`, `text` and `label`, or `target_image` and `target_text`."""

    rows: list[Row]
    folder: Path  # that relative paths start from
    skipped: Skipped  # files of an image folder
    is_pictures: bool = False  # a folder whose folders are classes; such a picture is left out if it cannot be used


def read_rows(source: str, config: DataConfig, problem: Problem) -> Source:
    """The rows of a source.

    Raises:
        DataError: the source does not exist, is malformed, or lacks a column.
    """
    path = existing(Path(source))
    is_on_hub = not path.exists() and path.suffix.lower() not in SUFFIXES and not source.startswith((".", "/"))
    is_folder, metadata = path.is_dir(), metadata_file(path)
    if metadata is not None:
        path, config = metadata, config if config.image is None else config.model_copy(update={"image": "file_name"})
    elif is_folder:
        config = config.model_copy(update={"text": None})
    with data_errors():
        table = _hub_table(source) if is_on_hub else open_table(path)
        columns = _columns(source, table.names, config, problem)
        rows = all_rows(table, columns.values())
    fields = []
    for number, row in enumerate(rows, start=1):
        try:
            fields.append(_by_field(row, columns, table.class_names))
        except ValueError as error:
            raise DataError(f"{source} row {number}: {error}; write the data set again") from error
    if metadata is not None:
        return Source(fields, table.folder, unlisted_pictures(metadata, fields))
    if is_folder and isinstance(table, PlainTable):
        return Source(rows_with_class(path, fields, table.skipped), table.folder, table.skipped, is_pictures=True)
    return Source(fields, table.folder, Skipped())


def all_rows(table: Table, columns: Collection[str]) -> list[Row]:
    """These columns of every row. Raises TableError."""
    return [row for chunk in table.chunks(columns, _ROWS_AT_ONCE) for row in chunk]


@contextmanager
def data_errors() -> Iterator[None]:
    """Turn the error of a table that cannot be read into a DataError."""
    try:
        yield
    except TableError as error:
        raise DataError(str(error)) from error


def listed(lines: Sequence[str]) -> str:
    """The first ten lines, indented, and the number of the others."""
    more = [f"and {len(lines) - _MAX_LISTED:,} more"] if len(lines) > _MAX_LISTED else []
    return "\n".join(f"  {line}" for line in [*lines[:_MAX_LISTED], *more])


def _hub_table(source: str) -> PlainTable:
    """A split of a hub data set (`name:split`, by default `train`), whose images stay encoded. Raises DataError."""
    import datasets  # slow to import, and most tasks read a file

    name, _, split = source.partition(":")
    try:
        loaded = datasets.load_dataset(name, split=split or "train")
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        cure = "mend the path in data.train, or check the name, the network and HF_HUB_OFFLINE"
        raise DataError(f"{name} is neither a file nor a data set on the hub ({error}); {cure}") from error
    for column, feature in loaded.features.items():
        if isinstance(feature, datasets.Image):
            loaded = loaded.cast_column(column, datasets.Image(decode=False))
    classes = class_names(loaded.features.to_dict())
    return PlainTable(Path(name), Path(), loaded.column_names, len(loaded), lambda _: iter(loaded), classes)


def _columns(source: str, names: Sequence[str], config: DataConfig, problem: Problem) -> dict[str, str]:
    """The column of each field that is not null. Raises DataError for a column that the source does not have."""
    fields: dict[str, str | None] = {"image": config.image, "text": config.text}
    if problem is Problem.RETRIEVAL:
        fields |= {"target_image": config.target_image, "target_text": config.target_text}
    else:
        fields["label"] = config.label
    columns: dict[str, str] = {}
    for field, name in fields.items():
        if name is None:
            continue
        column = column_named(names, name)
        if column is None:
            cure = f"set data.{field}" + ("" if field == "label" else ", to null if there is none")
            raise DataError(f"{source} has no column {name!r}; it has {', '.join(map(printable, names))}: {cure}")
        columns[field] = column
    return columns


def _by_field(row: Row, columns: Mapping[str, str], classes: Mapping[str, Sequence[str]]) -> Row:
    """A row by field, with the names of classes in place of their numbers. Raises ValueError."""
    fields: Row = {"image": None, "text": None, "target_image": None, "target_text": None}
    for field, name in columns.items():
        fields[field] = with_names(row[name], classes[name]) if name in classes else row[name]
    return fields
