"""Settings of the C library's allocator (glibc): when freed memory goes back to the kernel."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE_BYTES = 4 << 20


def return_large_blocks() -> None:
    """Have glibc return large blocks as soon as they are freed. By default each thread keeps its largest blocks.

    The blocks of an ordinary picture are below the threshold, so it is not decoded more slowly.
    """
    with suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE_BYTES)


def return_freed_memory() -> None:
    """Return all freed memory; takes some milliseconds. Loading a version frees a third of the size of its tails."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
