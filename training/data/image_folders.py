"""Folders of pictures as sources: which folders are splits and which are classes, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from model_store.items.cells import existing, path_of
from model_store.items.folders import Skipped, folder_rows, is_hidden, picture_paths
from model_store.items.rows import Row
from training.errors import DataError

_METADATA = ("metadata.csv", "metadata.jsonl")  # lists the pictures of a folder in the column file_name
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}


def metadata_file(folder: Path) -> Path | None:
    """The file that lists the pictures of a folder, if there is one."""
    return next((folder / name for name in _METADATA if (folder / name).is_file()), None)


def split_folders(source: str) -> dict[str, Path]:
    """The folder of each split directly below a folder; empty if these folders are classes.

    They are splits if all have names of splits, one is for training, and each holds folders of classes or a metadata
    file. So a class may have the name `test`. Raises DataError if two folders are one split.
    """
    folder = existing(Path(source))
    if not folder.is_dir() or metadata_file(folder) is not None:
        return {}
    folders = _folders_with_pictures(folder)
    splits = {split: [path for path in folders if path.name.lower() in names] for split, names in _SPLIT_NAMES.items()}
    are_splits = all(metadata_file(path) or _folders_with_pictures(path) for path in folders)
    if not are_splits or not splits["train"] or len(folders) > sum(map(len, splits.values())):
        return {}
    for split, paths in splits.items():
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            raise DataError(f"{folder} has the folders {names}, which are both {split}; move their pictures into one")
    return {split: paths[0] for split, paths in splits.items() if paths}


def split_notes(splits: Mapping[str, Path], given: Mapping[str, str]) -> list[str]:
    """Which folders of `data.train` are read as splits, and what beside them is not read.

    Args:
        given: the configured source of each split.
    """
    if not splits:
        return []
    folder, beside = splits["train"].parent, Skipped()
    for path in sorted({*folder.iterdir()} - {*splits.values()}):
        beside.add(f"{path.name}/" if path.is_dir() else path.name, "what lies beside the splits")
    for name, path in splits.items():
        if name in given and existing(Path(given[name])) not in (folder, path):
            beside.add(f"{path.name}/", f"a split, because data.{name} is {given[name]}")
    names = ", ".join(f"{path.name}/" for path in splits.values())
    return [f"the folders of {folder} are splits, not classes: {names}", *beside.lines(folder)]


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
    """The pictures of a folder that its metadata file does not list."""
    folder, skipped = metadata.parent, Skipped()
    listed = {path_of(str(row["image"]), folder) for row in rows}
    for row in folder_rows(folder):
        if folder / row["image"] not in listed:
            skipped.add(row["image"], f"pictures that {metadata.name} does not list")
    return skipped


def _folders_with_pictures(folder: Path) -> list[Path]:
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))
    return [path for path in folders if next(picture_paths(path), None) is not None]
