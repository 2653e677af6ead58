"""From an item to the inputs of its towers: `pixel_values` of the picture, token ids of the text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from model_store import ImagePreprocessing, Padding
from model_store.items import pictures
from model_store.items.pictures import PictureError, PictureProblem
from service.api.answers import Modalities
from service.errors import Code, ServiceError

_PICTURE_CODES = {
    PictureProblem.FORMAT: Code.IMAGE_FORMAT,
    PictureProblem.DECODER: Code.IMAGE_FORMAT,
    PictureProblem.PIXELS: Code.IMAGE_TOO_MANY_PIXELS,
    PictureProblem.UNDECODABLE: Code.IMAGE_UNDECODABLE,
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
    """An item as its towers take it.

    Shapes:
        pixel_values: (1, 3, H, W)
    """

    pixel_values: NDArray[np.float32] | None
    tokens: Tokens | None

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
        """The tokens of a text. A text of more than `max_length` tokens is cut and keeps its end token.

        Raises ValueError, or another Exception of the library, if it cannot tokenize the text.
        """
        try:
            encoding = self._tokenizer.encode(text)
        except (Exception, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the library, which is no Exception
            raise ValueError(f"the tokenizer failed: {error}") from error
        input_ids = np.array([encoding.ids], np.int64)
        return Tokens(input_ids, np.array([len(encoding.ids) - 1], np.int64), bool(encoding.overflowing))


def decoding_bytes(picture: bytes, image: ImagePreprocessing, max_pixels: int) -> int:
    """The memory that `decode` takes at its peak, from the picture's header. Raises the errors of `decode`."""
    with _service_errors():
        return pictures.decoding_bytes(picture, max_pixels, image)


def decode(picture: bytes, image: ImagePreprocessing, max_pixels: int) -> NDArray[np.float32]:
    """`pixel_values` (1, 3, H, W) of an encoded picture; blocking. Raises ServiceError for an unusable picture."""
    with _service_errors():
        return pictures.pixel_values(picture, image, max_pixels)[None]


@contextmanager
def _service_errors() -> Iterator[None]:
    try:
        yield
    except PictureError as error:
        raise ServiceError(_PICTURE_CODES[error.problem], str(error)) from error
