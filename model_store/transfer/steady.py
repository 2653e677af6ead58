"""Content as it arrives: not too slowly, not too much, and from where it is wanted."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from time import monotonic

from model_store.transfer.remote import PIECE_BYTES, TransferError, UnreachableError

SLOWEST_SECONDS = 60.0  # for PIECE_BYTES


def steady(pieces: Iterator[bytes], name: str) -> Generator[bytes, None, None]:
    """The pieces as they arrive. Raises UnreachableError if a megabyte takes longer than a minute."""
    started, length = monotonic(), 0
    for piece in pieces:
        yield piece
        length += len(piece)
        if length >= PIECE_BYTES:
            started, length = monotonic(), 0
        elif monotonic() - started > SLOWEST_SECONDS:
            raise UnreachableError(f"{name} sends less than {PIECE_BYTES:,} bytes in {SLOWEST_SECONDS:.0f} seconds")


def whole(pieces: Iterator[bytes], max_bytes: int, name: str) -> bytes:
    """All pieces of a small content. Raises TransferError if it has more than `max_bytes` bytes, or is too slow."""
    content = b""
    for piece in steady(pieces, name):
        content += piece
        if len(content) > max_bytes:
            raise TransferError(f"{name} has more than {max_bytes:,} bytes; correct the target")
    return content


def from_byte(skipped: int, pieces: Iterator[bytes], name: str) -> Generator[bytes, None, None]:
    """The pieces without so many bytes at their start: a server that ignores `Range` sends a blob from its start.

    Raises as `steady`, also in the bytes that are left out.
    """
    for piece in steady(pieces, name):
        if skipped < len(piece):
            yield piece[skipped:]
        skipped = max(0, skipped - len(piece))
