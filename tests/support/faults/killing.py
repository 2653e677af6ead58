"""A stand-in for SIGKILL within this process: from the n-th change of the file system on, nothing changes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree"}
_left: int | None = None  # changes until the kill; None: no kill
_is_watching = False


class Killed(BaseException):
    """The kill, which no `except Exception` stops."""


@contextmanager
def killed_at(change: int) -> Iterator[None]:
    """The block dies at its n-th change of the file system, counted from 1; its clean-up changes nothing either."""
    global _left, _is_watching
    if not _is_watching:
        sys.addaudithook(_watch)  # for good: a hook cannot be removed
        _is_watching = True
    _left = change
    try:
        yield
    finally:
        _left = None


def _watch(event: str, arguments: tuple) -> None:
    global _left
    if _left is None:
        return
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if event in _CHANGES or writes:
        _left -= 1
        if _left <= 0:
            raise Killed
