"""From an item to the inputs of its towers: `pixel_values` of the picture, token ids of the text."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from model_store import ImagePreprocessing, Padding
from model_store.items.pictures import PictureError, PictureProblem, pixel_values
from service.api.answers import Modalities
from service.errors import Code, ServiceError

_PICTURE_CODES = {
    PictureProblem.FORMAT: Code.IMAGE_FORMAT,
    PictureProblem.DECODER: Code.IMAGE_FORMAT,
    PictureProblem.PIXELS: Code.IMAGE_TOO_MANY_PIXELS,
    PictureProblem.UNDECODABLE: Code.IMAGE_UNDECODABLE,
    PictureProblem.MEMORY: Code.IMAGE_TOO_MANY_PIXELS,
}


@dataclass(frozen=True)
class Tokens:
    """One text as token ids.

    Shapes:
        input_ids: (1, L), start and end tokens included; last_token: (1,), the index of the token that is pooled.
    """

    input_ids: NDArray[np.int64]
    last_token: NDArray[np.int64]
    truncated: bool


@dataclass(frozen=True)
class Prepared:
    """An item as its towers take it, and the time that preparing it took.

    Shapes:
        pixel_values: (1, 3, H, W)
    """

    pixel_values: NDArray[np.float32] | None
    tokens: Tokens | None
    started: float  # by time.perf_counter()
    decode_seconds: float
    tokenize_seconds: float

    @property
    def modalities(self) -> Modalities:
        """How each modality is used, for the answer."""
        image, tokens = self.pixel_values, self.tokens
        return Modalities(
            image="absent" if image is None else "used",
            text="absent" if tokens is None else "truncated" if tokens.truncated else "used",
        )


class TextTokenizer:
    """A `tokenizers` JSON file, cut at `max_length` tokens. Several threads may use it at the same time.

    Its token ids equal those of the backbone's own tokenizer, except that a text is padded only where the padding
    changes its features.
    """

    def __init__(self, definition: bytes, max_length: int, padding: Padding | None = None) -> None:
        self._tokenizer = Tokenizer.from_str(definition.decode())
        self._tokenizer.enable_truncation(max_length)
        if padding is None:
            self._tokenizer.no_padding()
        else:
            self._tokenizer.enable_padding(length=padding.length, pad_id=padding.token)
        self._tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a text is plain text

    def tokenize(self, text: str) -> Tokens:
        """The tokens of a text. A text of more than `max_length` tokens is cut and keeps its end token."""
        encoding = self._tokenizer.encode(text)
        input_ids = np.array([encoding.ids], np.int64)
        return Tokens(input_ids, np.array([len(encoding.ids) - 1], np.int64), bool(encoding.overflowing))


class MemoryBudget:
    """A limit on the bytes of pictures that are decoded at the same time, granted in the order of arrival."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = self._free_bytes = total_bytes
        self._changed = threading.Condition()
        self._first_waiting = threading.Lock()  # held by the oldest waiting thread, so that later threads wait behind

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


def decode(picture: bytes, image: ImagePreprocessing, max_pixels: int, budget: MemoryBudget) -> NDArray[np.float32]:
    """`pixel_values` (1, 3, H, W) of an encoded picture; blocking. Raises ServiceError for an unusable picture."""
    with ExitStack() as reserved_memory:

        def reserve(size_in_bytes: int) -> None:
            reserved_memory.enter_context(budget.reserve(size_in_bytes))

        try:
            return pixel_values(picture, image, max_pixels, reserve)[None]
        except PictureError as error:
            raise ServiceError(_PICTURE_CODES[error.problem], str(error)) from error
