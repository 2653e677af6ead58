"""Waiting for what happens in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(is_so: Callable[[], object], seconds: float = 60.0) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + seconds
    while not (reached := bool(is_so())) and time.monotonic() < end:
        time.sleep(0.02)
    return reached


def eventually(is_so: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until it is so; fail where it never is."""
    assert wait_until(is_so, seconds), "it did not happen"
