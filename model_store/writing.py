"""Parts of every writer of the store: the lock that admits one writer at a time, staging, folders, version files."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_store.errors import CorruptError, NotFoundError
from model_store.files import digest_line, sync_directory, write_synced
from model_store.store import OPENSSF_SIGNATURE, Store

SIGNATURE = "manifest.sig"


def create_store(store: Store) -> None:
    """Make the folders of an empty store, if it does not exist."""
    for missing in [folder for folder in [store.root, *store.root.parents] if not folder.exists()][::-1]:
        _make_directory(missing)
    folder_of(store, "tasks")


def write_version(folder: Path, content: bytes, signature: bytes | None, openssf: bytes | None = None) -> None:
    """Write the files of a version into a new folder, and flush them to disk."""
    folder.mkdir()
    write_synced(folder / "manifest.json", content)
    write_synced(folder / "manifest.sha256", digest_line(content))
    if signature is not None:
        write_synced(folder / SIGNATURE, signature)
    if openssf is not None:
        write_synced(folder / OPENSSF_SIGNATURE, openssf)
    sync_directory(folder)


def set_file(folder: Path, name: str, content: bytes, staging: Path) -> None:
    """Write a file of a folder, or replace it; readers see all of the old or of the new content."""
    write_synced(staging / name, content)
    (staging / name).replace(folder / name)
    sync_directory(folder)


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Hold the writers' lock, which is released even if the process is killed."""
    if not (store.root / "tasks").is_dir():
        cure = "name a store with --store; `mora-train publish` creates one"
        raise NotFoundError(f"no model store at {store.root}: it has no folder `tasks`; {cure}")
    lock = os.open(store.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def writing(store: Store) -> Iterator[Path]:
    """Hold the writers' lock and yield a new staging folder."""
    with locked(store):
        staging = folder_of(store, ".staging") / uuid.uuid4().hex
        staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def folder_of(store: Store, *names: str) -> Path:
    """A folder of the store, created if missing."""
    folder = store.root
    for name in names:
        folder = folder / name
        refuse_symlink(store, folder)
        _make_directory(folder)
    return folder


def refuse_symlink(store: Store, folder: Path) -> None:
    """Raise CorruptError if a folder of the store is a symlink."""
    if folder.is_symlink():  # its target may be outside the store
        raise CorruptError(f"{folder.relative_to(store.root)} is a symlink; replace it by a folder", "link")


def _make_directory(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    sync_directory(folder.parent)  # even if the folder exists: the process that created it may have been killed
