"""Reading and writing single files of the store."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

from model_store.errors import CorruptError
from model_store.manifest import Blob

_NOT_PLAIN = {errno.ELOOP, errno.ENOTDIR, errno.ENXIO}  # a symlink, a file in place of a folder, a socket
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def blob_of(data: bytes) -> Blob:
    """The digest and size of `data`. They are the same in every store."""
    return Blob(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def digest_line(manifest: bytes) -> bytes:
    """The content of `manifest.sha256` for a manifest, in the format of `sha256sum --check`."""
    return f"{hashlib.sha256(manifest).hexdigest()}  manifest.json\n".encode()


def read_beneath(root: Path, relative: str, max_bytes: int) -> bytes:
    """The bytes of a regular file below `root`. Symlinks below `root` are not followed.

    Raises:
        CorruptError: the file or a folder on its path is missing or a symlink. Or the file has several hard links, has
            more than `max_bytes` bytes, or cannot be read.
    """
    *folders, name = relative.split("/")
    handles: list[int] = []
    try:
        handles.append(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for folder in folders:
            handles.append(os.open(folder, _DIRECTORY, dir_fd=handles[-1]))
        handles.append(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=handles[-1]))
        status = os.fstat(handles[-1])
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # 0 links: a complete file, replaced since
            problem = f"{relative} is not a regular file or has several hard links"
            raise CorruptError(f"{problem}; publish the version again", "link")
        if status.st_size > max_bytes:
            problem = f"{relative} has {status.st_size} bytes, expected at most {max_bytes}"
            raise CorruptError(f"{problem}; publish the version again", "size")
        with os.fdopen(os.dup(handles[-1]), "rb") as file:
            return file.read(status.st_size + 1)  # not `max_bytes`: a manifest may name any size
    except FileNotFoundError as error:
        raise CorruptError(f"{relative} is missing; publish the version again", "missing") from error
    except OSError as error:
        reason = "link" if error.errno in _NOT_PLAIN else "unreadable"
        cure = "publish the version again" if reason == "link" else "let this user read it (ls -l), or check the disk"
        raise CorruptError(f"{relative} cannot be read ({error.strerror}); {cure}", reason) from error
    finally:
        for handle in reversed(handles):
            os.close(handle)


def write_synced(path: Path, data: bytes) -> None:
    """Create `path` with `data` and flush it to disk. Raises FileExistsError if the file exists."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Flush the entries of a directory to disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
