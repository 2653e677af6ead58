"""How much memory decoding may take at the same time, so that large pictures together do not exhaust it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from model_store.items.picture_error import PictureError, PictureProblem


class MemoryBudget:
    """Room for so many bytes; who finds too little waits, and who came later waits behind."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = self._left = total_bytes
        self._changed = threading.Condition()
        self._turn = threading.Lock()  # held by the one that waits for room, or smaller pictures would keep it waiting

    @contextmanager
    def room_for(self, wanted_bytes: int) -> Iterator[None]:
        """Blocks until there is room. Raises PictureError `MEMORY` where there never will be."""
        if wanted_bytes > self._total_bytes:
            message = f"Decoding an image may take {self._total_bytes} bytes; send fewer pixels, or a baseline JPEG."
            raise PictureError(PictureProblem.MEMORY, message)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._left >= wanted_bytes)
            self._left -= wanted_bytes
        try:
            yield
        finally:
            with self._changed:
                self._left += wanted_bytes
                self._changed.notify_all()
