"""A limit on the memory of pictures that are decoded at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from model_store.items.pictures import PictureError, PictureProblem


class MemoryBudget:
    """A number of bytes that threads reserve from; reservations are granted in the order of their arrival."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = self._free_bytes = total_bytes
        self._changed = threading.Condition()
        self._first_waiting = threading.Lock()  # held by the first thread that waits, so that smaller ones stay behind

    @contextmanager
    def reserve(self, size_in_bytes: int) -> Iterator[None]:
        """Blocks until the bytes are free. Raises PictureError `MEMORY` for more than the total."""
        if size_in_bytes > self._total_bytes:
            message = f"Decoding an image may take {self._total_bytes} bytes; send fewer pixels, or a baseline JPEG."
            raise PictureError(PictureProblem.MEMORY, message)
        with self._first_waiting, self._changed:
            self._changed.wait_for(lambda: self._free_bytes >= size_in_bytes)
            self._free_bytes -= size_in_bytes
        try:
            yield
        finally:
            with self._changed:
                self._free_bytes += size_in_bytes
                self._changed.notify_all()
