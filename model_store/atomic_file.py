"""Files that appear once they are complete."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from model_store.files import sync_directory

UNFINISHED = ".unfinished"  # the ending of a file that is being written, or that a killed process has left


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write. It replaces `path` once all its bytes are on disk; an error leaves `path` as it was."""
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}{UNFINISHED}")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that has its name only when all of it is on disk; a file of that name is replaced."""
    with atomic_file(path) as file:
        file.write(content)
