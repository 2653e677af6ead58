"""Waiting for what happens in another thread or process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def wait_until(is_so: Callable[[], object], seconds: float = 60.0) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + seconds
    while not (reached := bool(is_so())) and time.monotonic() < end:
        time.sleep(0.02)
    return reached


def eventually(is_so: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until it is so; fail where it never is."""
    assert wait_until(is_so, seconds), "it did not happen"


@contextmanager
def repeating(action: Callable[[], object], pause: float) -> Iterator[None]:
    """Do it in another thread again and again, with so many seconds between, until the block ends."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            action()
            stop.wait(pause)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
