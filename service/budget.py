"""How many pixels may be decoded at the same time, so that large pictures together do not exhaust the memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PixelBudget:
    """Room for so many pixels; who finds too little waits, and who came later waits behind."""

    def __init__(self, pixels: int) -> None:
        self._pixels = self._left = pixels
        self._changed = threading.Condition()
        self._turn = threading.Lock()  # held by the one that waits for room, or smaller pictures would keep it waiting

    @contextmanager
    def room_for(self, pixels: int) -> Iterator[None]:
        """Blocks until there is room; a picture larger than the whole budget is decoded with no other beside it."""
        wanted = min(pixels, self._pixels)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._left >= wanted)
            self._left -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._left += wanted
                self._changed.notify_all()
