"""Removing from the store, under the lock of writers: old versions, and files that no version needs."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from model_store.errors import CorruptError
from model_store.files import sync_directory
from model_store.incoming import abandoned_files
from model_store.messages import quoted
from model_store.store import Store
from model_store.writing import folder_of, locked, refuse_symlink


def collect_garbage(store: Store) -> dict[Path, int]:
    """Remove blobs that no manifest names, the staging folders of killed writers, and the files of killed transfers.

    Returns the removed paths with their sizes in bytes.

    Raises:
        CorruptError: a task or manifest cannot be read, so the blobs that it needs are unknown; nothing is removed.
    """
    with locked(store), _unneeded(store) as unneeded:
        return {path: _remove(path) for path in unneeded}


def prune(store: Store, keep: int, task: str | None = None, *, dry_run: bool = False) -> dict[Path, int]:
    """Remove old versions, then what `collect_garbage` removes. It needs no free space on the disk.

    A version is old if its number is lower than that of the live version, except for the `keep` highest of these
    numbers. A task without a live version has no old versions. If the process is killed, a version is either whole or
    gone: its folder moves out of `tasks` before the first of its files is removed.

    Args:
        keep: at least 1, so that `rollback` has a version to go back to.
        task: the task whose versions are removed, by default every task.
        dry_run: remove nothing.

    Returns:
        The removed paths with their sizes in bytes, or the paths that would be removed.

    Raises:
        NotFoundError: there is no such task.
        CorruptError: a task, the number of a live version or a manifest that stays cannot be read; nothing is removed.
    """
    if keep < 1:
        raise ValueError("keep must be at least 1")
    with locked(store):
        with _nothing_removed():
            old = [
                store.root / f"tasks/{name}/{version}"
                for name in (store.tasks() if task is None else [task])
                for version in _old_versions(store, name, keep)
            ]
        with _unneeded(store, old) as unneeded:
            if dry_run:
                return {path: _size(path) for path in [*old, *unneeded]}
            staging = folder_of(store, ".staging")
            moved = {path: path.rename(staging / uuid.uuid4().hex) for path in old}
            for folder in {path.parent for path in old}:
                sync_directory(folder)  # before a blob is removed: a power cut must not bring a version back without it
            removed = {path: _remove(target) for path, target in moved.items()}
            return removed | {path: _remove(path) for path in unneeded}


def _old_versions(store: Store, task: str, keep: int) -> list[int]:
    live, versions = store.live(task), store.versions(task)
    if live is None:
        return []
    if live not in versions:
        cure = f"run `mora-store activate {task} VERSION --store {quoted(store.root)}`"
        raise CorruptError(f"version {live} of {task} is live, but does not exist; {cure}", "missing")
    return [version for version in versions if version < live][:-keep]


@contextmanager
def _unneeded(store: Store, old: Collection[Path] = ()) -> Iterator[list[Path]]:
    """Blobs that no version needs, except those in the folders `old`, and what killed writers and transfers left."""
    with _nothing_removed():
        for folder in folder_of(store, "tasks").iterdir():
            refuse_symlink(store, folder)
        needed = {
            blob.sha256
            for task in store.tasks()
            for version in store.versions(task)
            if store.root / f"tasks/{task}/{version}" not in old
            for blob in store.manifest(task, version).blobs()
        }
    unneeded = [*folder_of(store, ".staging").iterdir()]
    unneeded += [path for path in folder_of(store, "blobs", "sha256").iterdir() if path.name not in needed]
    with abandoned_files(store.root) as abandoned:
        yield [*unneeded, *abandoned]


@contextmanager
def _nothing_removed() -> Iterator[None]:
    """Have a CorruptError say that nothing was removed."""
    try:
        yield
    except CorruptError as error:
        raise CorruptError(f"nothing was removed, because {error}", error.reason) from error


def _remove(path: Path) -> int:
    """Remove a file, or a folder with its content. Returns the size in bytes."""
    size = _size(path)
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)
    return size


def _size(path: Path) -> int:
    """The size in bytes of a file, or of the files in a folder."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(inner.lstat().st_size for inner in path.rglob("*") if not inner.is_dir())
