"""Reading and writing single files of the store."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
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
        CorruptError: the file or a folder on its path is missing or a symlink. Or the file has more than `max_bytes`
            bytes, or cannot be read.
    """
    with _opened_beneath(root, relative, max_bytes) as (handle, status), os.fdopen(os.dup(handle), "rb") as file:
        return file.read(status.st_size + 1)  # not `max_bytes`: a manifest may name any size


def open_beneath(root: Path, relative: str, max_bytes: int) -> BufferedReader:
    """A regular file below `root`, open for reading. Raises as `read_beneath`."""
    with _opened_beneath(root, relative, max_bytes) as (handle, _):
        return os.fdopen(os.dup(handle), "rb")


def stat_beneath(root: Path, relative: str, max_bytes: int) -> os.stat_result:
    """The status of a file that `read_beneath` would begin to read. Raises as `read_beneath`."""
    with _opened_beneath(root, relative, max_bytes) as (_, status):
        return status


def exists_beneath(root: Path, relative: str) -> bool:
    """Whether there is an entry of this name, if only a dangling symlink. Raises CorruptError if that is unknown."""
    try:
        (root / relative).lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unreadable(relative, error) from error
    return True


def is_folder_beneath(root: Path, relative: str) -> bool:
    """Whether there is a folder, or a symlink to one. Raises CorruptError if that is unknown."""
    try:
        return stat.S_ISDIR((root / relative).stat().st_mode)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unreadable(relative, error) from error


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """A value that changes if the file is replaced or changed. A new hard link or new permissions change it, too."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def unreadable(relative: str, error: OSError) -> CorruptError:
    """The error for a file or folder that the system does not let this process read."""
    if isinstance(error, FileNotFoundError):
        return CorruptError(f"{relative} is missing; publish the version again", "missing")
    reason = "link" if error.errno in _NOT_PLAIN else "unreadable"
    cure = "publish the version again" if reason == "link" else "let this user read it (ls -l), or check the disk"
    return CorruptError(f"{relative} cannot be read ({error.strerror}); {cure}", reason)


@contextmanager
def _opened_beneath(root: Path, relative: str, max_bytes: int) -> Iterator[tuple[int, os.stat_result]]:
    *folders, name = relative.split("/")
    handles: list[int] = []
    try:
        handles.append(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for folder in folders:
            handles.append(os.open(folder, _DIRECTORY, dir_fd=handles[-1]))
        handles.append(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=handles[-1]))
        status = os.fstat(handles[-1])
        if not stat.S_ISREG(status.st_mode):
            raise CorruptError(f"{relative} is not a regular file; publish the version again", "link")
        if status.st_size > max_bytes:
            problem = f"{relative} has {status.st_size} bytes, expected at most {max_bytes}"
            raise CorruptError(f"{problem}; publish the version again", "size")
        yield handles[-1], status
    except OSError as error:
        raise unreadable(relative, error) from error
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
