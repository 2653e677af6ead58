"""What the C library does with memory that is free again."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE_BYTES = 4 << 20


def return_large_blocks() -> None:
    """Have glibc give large blocks back to the kernel at once; else each thread keeps the most that it ever used.

    An ordinary picture stays below the threshold and costs what it did.
    """
    with suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE_BYTES)


def return_freed_memory() -> None:
    """Give the kernel back what reading and opening has freed, a third of a task's tails; glibc would keep it."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
