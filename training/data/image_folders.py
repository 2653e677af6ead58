"""Folders of pictures as sources: which folders are splits and which are classes, and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from model_store.items.cells import existing, path_of
from model_store.items.folders import Skipped, folder_rows, is_hidden, picture_paths
from model_store.items.rows import Row
from training.errors import DataError, first_few

_METADATA = ("metadata.csv", "metadata.jsonl")  # lists the pictures of a folder in the column file_name
_MAX_LISTED = 10  # folders in a note
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
_ALL_SPLIT_NAMES = {name for names in _SPLIT_NAMES.values() for name in names}


def metadata_file(folder: Path) -> Path | None:
    """The file that lists the pictures of a folder, if there is one."""
    return next((folder / name for name in _METADATA if (folder / name).is_file()), None)


def split_folders(source: str) -> dict[str, Path]:
    """The folder of each split directly below a folder; empty if these folders are classes.

    They are splits if all have names of splits, one is for training, and each holds folders of classes or a metadata
    file. So a class may have the name `test`.

    Raises DataError if two folders are one split, or if train and another split are certain and a third folder is none.
    """
    folder = existing(Path(source))
    if not folder.is_dir() or metadata_file(folder) is not None:
        return {}
    folders = _folders_with_pictures(folder)
    splits = {split: [path for path in folders if path.name.lower() in names] for split, names in _SPLIT_NAMES.items()}
    others = [path for path in folders if path.name.lower() not in _ALL_SPLIT_NAMES]
    flat = [path for path in folders if not (metadata_file(path) or _folders_with_pictures(path))]
    if others or flat or not splits["train"]:
        _refuse_splits_beside_others(folder, splits, others or flat)
        return {}
    for split, paths in splits.items():
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            raise DataError(f"{folder} has the folders {names}, which are both {split}; move their pictures into one")
    return {split: paths[0] for split, paths in splits.items() if paths}


def split_notes(splits: Mapping[str, Path], given: Mapping[str, str]) -> list[str]:
    """Which folders of `data.train` are read as splits, and what beside them is not read.

    Args:
        splits: the folder of each, at least of train.
        given: the configured source of each split.
    """
    folder, beside = splits["train"].parent, Skipped()
    for path in sorted({*folder.iterdir()} - {*splits.values()}):
        beside.add(f"{path.name}/" if path.is_dir() else path.name, "what lies beside the splits")
    for name, path in splits.items():
        if name in given and existing(Path(given[name])) not in (folder, path):
            beside.add(f"{path.name}/", f"a split, because data.{name} is {given[name]}")
    names = ", ".join(f"{path.name}/" for path in splits.values())
    return [f"the folders of {folder} are splits, not classes: {names}", *beside.lines(folder)]


def class_notes(source: str) -> list[str]:
    """Which folders of `data.train` are read as classes although they hold folders, as splits do."""
    folder = existing(Path(source))
    if not folder.is_dir() or metadata_file(folder) is not None:
        return []
    inner = {path.name: _names_within(path) for path in _folders_with_pictures(folder)}
    counts = Counter(name for names in inner.values() for name in names)
    nested = [
        name
        for name, names in inner.items()
        if any(counts[each] > 1 for each in names) or (names and name.lower() in _ALL_SPLIT_NAMES)
    ]
    if not nested:
        return []
    shown, within = first_few(nested, _MAX_LISTED), first_few(sorted(inner[nested[0]]))
    labels = f"the labels are the names of the folders in {folder}, among them {shown}"
    return [f"{labels}; if the folders within are the classes ({within}), set data.train to {folder / nested[0]}"]


def rows_with_class(folder: Path, rows: Iterable[Row], skipped: Skipped) -> list[Row]:
    """The rows of pictures in folders, whose names are the classes."""
    kept = [row for row in rows if row["label"] is not None]
    for row in rows:
        if row["label"] is None:
            skipped.add(row["image"], "pictures that are in no folder, so have no class")
    classes = {row["label"] for row in kept}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in classes and not is_hidden(path.name):
            skipped.add(f"{path.name}/", "folders without pictures")
    return kept


def unlisted_pictures(metadata: Path, rows: Iterable[Row]) -> Skipped:
    """The pictures of a folder that its metadata file does not list, and its other metadata file."""
    folder, skipped = metadata.parent, Skipped()
    for name in _METADATA:
        if name != metadata.name and (folder / name).is_file():
            skipped.add(name, f"not read, because {metadata.name} is")
    listed = {path_of(str(row["image"]), folder) for row in rows}
    for row in folder_rows(folder):
        if folder / row["image"] not in listed:
            skipped.add(row["image"], f"pictures that {metadata.name} does not list")
    return skipped


def _refuse_splits_beside_others(folder: Path, splits: Mapping[str, list[Path]], others: Sequence[Path]) -> None:
    """Refuse train and another split beside folders that are none: both have metadata, or two classes in common."""
    if not splits["train"]:
        return
    train, names = splits["train"][0], _names_within(splits["train"][0])
    for split in ("validation", "test"):
        for path in splits[split]:
            if (metadata_file(train) and metadata_file(path)) or len(names & _names_within(path)) > 1:
                beside = first_few([f"{other.name}/" for other in others])
                cure = f"set data.train to {train} and data.{split} to {path}, or move {beside} to another folder"
                raise DataError(f"{folder} has the splits {train.name}/ and {path.name}/ beside {beside}; {cure}")


def _names_within(folder: Path) -> set[str]:
    """The names of the folders with pictures in a folder."""
    return {path.name for path in _folders_with_pictures(folder)}


def _folders_with_pictures(folder: Path) -> list[Path]:
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))
    return [path for path in folders if next(picture_paths(path), None) is not None]
