"""Several blobs at a time; the first failure stops the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event

from model_store.manifest import Blob
from model_store.transfer.remote import Advance

_AT_A_TIME = 4


class _StoppedError(Exception):
    """Another blob has failed."""


def move_all(blobs: Iterable[Blob], move: Callable[[Blob, Advance], None], advance: Advance) -> None:
    """Call `move` for each blob. Raises the first error, once the other calls have stopped at their next piece."""
    stop = Event()

    def counted(count: int) -> None:
        if stop.is_set():
            raise _StoppedError
        advance(count)

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        moves = [pool.submit(move, blob, counted) for blob in blobs]
        try:
            done, _ = wait(moves, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        for future in done:
            future.result()


def those_without(blobs: Sequence[Blob], has: Callable[[Blob], bool]) -> list[Blob]:
    """The blobs that a place lacks."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return [blob for blob, is_there in zip(blobs, pool.map(has, blobs), strict=True) if not is_there]
