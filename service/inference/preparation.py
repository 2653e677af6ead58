"""Decoding of pictures and tokenizing of texts, apart from each other, so that a text never waits for pictures."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import numpy as np
from numpy.typing import NDArray

from service.api.item import Item
from service.errors import queue_full
from service.inference.memory_budget import MemoryBudget
from service.inference.workers import Done, Workers
from service.models.loaded_model import Model
from service.models.malloc import return_freed_memory
from service.models.preparation import Tokens
from service.settings import Settings

_INLINE_CHARACTERS = 512  # tokenizing takes at most about 2 ms; the longest text takes some 100 ms
_LARGE_BYTES = 64_000_000  # decoding then takes half a second


class Preparation:
    """Threads that decode, within a budget of memory, and threads that tokenize.

    A picture gets a thread once its memory is reserved, so that no thread waits for memory. A short text is tokenized
    on the event loop, which is faster than a change of threads, and so it does not wait for long texts.
    """

    def __init__(self, settings: Settings) -> None:
        threads, queue_size = settings.preparation_workers, settings.queue_size
        self._decoding = Workers("decoding", threads, queue_size, in_background=True)
        self._tokenizing = Workers("tokenizing", threads, queue_size)
        self._memory = MemoryBudget(settings.max_decode_bytes)
        self._max_pictures = threads + queue_size
        self._pictures = 0  # in any step of `decode`

    def check(self, item: Item) -> None:
        """Raises ServiceError `queue_full` if the item would be refused now."""
        if item.image is not None and self._pictures >= self._max_pictures:
            raise queue_full()
        if item.text is not None and not _is_short(item.text):
            self._tokenizing.check()

    async def decode(self, model: Model, picture: bytes) -> Done[NDArray[np.float32]]:
        """`pixel_values` (1, 3, H, W) of a picture: read its header, reserve the memory that it takes, and decode it.

        The file is opened for each step: a picture that waits opened would keep a copy of its file. Raises ServiceError
        for an unusable picture.
        """
        submitted = time.perf_counter()
        self._pictures += 1
        try:
            header = await asyncio.wrap_future(self._decoding.submit(partial(model.decoding_bytes, picture)))
            await self._memory.reserve(header.result)
            job = self._decoding.submit(partial(_decode, model, picture, header.result))
            # The thread of a cancelled request uses the memory until the picture is decoded.
            job.add_done_callback(lambda _: self._memory.release(header.result))
            decoded = await asyncio.wrap_future(job)
        finally:
            self._pictures -= 1
        run_seconds = header.run_seconds + decoded.run_seconds
        return Done(decoded.result, time.perf_counter() - submitted - run_seconds, run_seconds)

    async def tokenize(self, model: Model, text: str) -> Done[Tokens]:
        """The tokens of a text. Raises ServiceError `queue_full`."""
        job = partial(model.tokenizer.tokenize, text)
        if not _is_short(text):
            return await self._tokenizing.run(job)
        started = time.perf_counter()
        return Done(job(), 0.0, time.perf_counter() - started)

    def is_stalled(self, seconds: float) -> bool:
        """Whether for so long work waited, and none started or ended, as `Workers.is_stalled`."""
        is_decoding_stalled = self._decoding.is_stalled(seconds, others_wait=self._memory.has_waiting)
        return is_decoding_stalled or self._tokenizing.is_stalled(seconds)

    def close(self) -> None:
        """Finish running work and drop waiting work."""
        self._decoding.close()
        self._tokenizing.close()


def _is_short(text: str) -> bool:
    return len(text) <= _INLINE_CHARACTERS


def _decode(model: Model, picture: bytes, size_in_bytes: int) -> NDArray[np.float32]:
    if size_in_bytes > _LARGE_BYTES:
        return_freed_memory()  # of bodies that were parsed, which would add to the memory of this picture
    return model.decode(picture)
