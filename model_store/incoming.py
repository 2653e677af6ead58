"""Files of transfers that the store does not show yet: `<root>/.incoming/<name>`, each locked while it is in use."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from model_store.errors import CorruptError
from model_store.files import sync_directory

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def incoming_path(root: Path, name: str) -> Path:
    """The path of a file of this name."""
    return root / ".incoming" / name


@contextmanager
def incoming_file(root: Path, name: str) -> Iterator[BinaryIO]:
    """A file to read and write, with the content that an earlier transfer left. Waits while another transfer uses it.

    The caller moves the file away once it is complete. Otherwise it stays, for a later transfer to resume.
    """
    folder = root / ".incoming"
    if folder.is_symlink():  # its target may be outside the store
        raise CorruptError(".incoming is a symlink; replace it by a folder", "link")
    for missing in [one for one in (folder, *folder.parents) if not one.exists()][::-1]:
        missing.mkdir(exist_ok=True)
        sync_directory(missing.parent)
    path = incoming_path(root, name)
    while True:
        handle = os.open(path, _FLAGS | os.O_CREAT, 0o644)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(handle, path):  # else it was moved or removed while this process waited
                yield file
                return


@contextmanager
def abandoned_files(root: Path) -> Iterator[list[Path]]:
    """The files that no transfer uses, locked until the end of the block."""
    folder = root / ".incoming"
    paths = [] if folder.is_symlink() or not folder.is_dir() else sorted(folder.iterdir())
    with ExitStack() as handles:
        yield [path for path in paths if _locks(path, handles)]


def _locks(path: Path, handles: ExitStack) -> bool:
    if path.is_symlink() or not path.is_file():
        return True  # nothing that a transfer made
    handle = os.open(path, _FLAGS)
    handles.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _is_at(handle, path)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False
