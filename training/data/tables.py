"""Rows by column name, from a file, an image folder or a hub data set."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from model_store.items.labels import class_names, with_names
from model_store.items.rows import Row, TableError
from model_store.items.tables import SUFFIXES, Table, open_table
from training.config import DataConfig
from training.errors import DataError

_MAX_LISTED = 10
_ROWS_AT_ONCE = 1000
_METADATA = ("metadata.csv", "metadata.jsonl")  # lists the pictures of a folder in the column file_name
_SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation"}


def read_rows(source: str, config: DataConfig) -> tuple[list[Row], Path]:
    """The rows of a source as `image`, `text` and `label`, and the folder that relative paths start from.

    Raises:
        DataError: the source does not exist, is malformed, or lacks a column.
    """
    path = Path(source)
    if not path.exists() and path.suffix.lower() not in SUFFIXES and not source.startswith((".", "/")):
        name, _, split = source.partition(":")
        names, hub_rows, classes = _hub_data_set(name, split or "train")
        return _fields(name, hub_rows, _columns(name, names, config), classes), Path()
    if path.is_dir():
        path, config = _in_folder(path, config)
    with data_errors():
        table = open_table(path)
        columns = _columns(source, table.names, config)
        rows = all_rows(table, [*filter(None, columns.values())])
    return _fields(source, rows, columns, table.class_names), table.folder


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
    """The first ten, indented, one a line, and how many more there are."""
    more = [f"and {len(lines) - _MAX_LISTED:,} more"] if len(lines) > _MAX_LISTED else []
    return "\n".join(f"  {line}" for line in [*lines[:_MAX_LISTED], *more])


def _in_folder(folder: Path, config: DataConfig) -> tuple[Path, DataConfig]:
    """The metadata file of an image folder, or the folder, whose folders are the labels; and the columns of either."""
    metadata = next((folder / name for name in _METADATA if (folder / name).is_file()), None)
    if metadata is not None:
        return metadata, config if config.image is None else config.model_copy(update={"image": "file_name"})
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    if names and names <= _SPLIT_FOLDERS:
        cure = f"give each as a source of its own: data.train: {folder / min(names, key=lambda name: name != 'train')}"
        raise DataError(f"{folder} has the folders {', '.join(sorted(names))}, which are splits, not labels; {cure}")
    return folder, config.model_copy(update={"text": None})


def _hub_data_set(name: str, split: str) -> tuple[list[str], Iterable[Row], Mapping[str, Sequence[str]]]:
    """Columns, rows, and the names of classes. Raises DataError."""
    import datasets  # slow to import, and most tasks read a file

    try:
        loaded = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        cure = "mend the path in data.train, or check the name, the network and HF_HUB_OFFLINE"
        raise DataError(f"{name} is neither a file nor a data set that the hub has ({error}); {cure}") from error
    for column, feature in loaded.features.items():
        if isinstance(feature, datasets.Image):
            loaded = loaded.cast_column(column, datasets.Image(decode=False))
    return loaded.column_names, loaded, class_names(loaded.features.to_dict())


def _columns(source: str, names: Sequence[str], config: DataConfig) -> dict[str, str | None]:
    """The column of each field. Raises DataError for one that the source does not have."""
    columns = {"image": config.image, "text": config.text, "label": config.label}
    for field, name in columns.items():
        if name is not None and name not in names:
            cure = f"set data.{field}" + ("" if field == "label" else ", to null if there is none")
            raise DataError(f"{source} has no column {name!r}; it has {', '.join(names)}: {cure}")
    return columns


def _fields(
    source: str, rows: Iterable[Row], columns: Mapping[str, str | None], classes: Mapping[str, Sequence[str]]
) -> list[Row]:
    """Each row by field, with the names of classes in place of their numbers. Raises DataError."""
    fields = [{field: None if name is None else row[name] for field, name in columns.items()} for row in rows]
    try:
        for field, name in columns.items():
            if name is not None and name in classes:
                for row in fields:
                    row[field] = with_names(row[field], classes[name])
    except ValueError as error:
        raise DataError(f"{source}: {error}; write the data set again") from error
    return fields
