"""From a text to `input_ids`, exactly as the backbone's own tokenizer does it; padded only where padding matters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from model_store import Padding


@dataclass(frozen=True)
class Tokens:
    """One text as token ids.

    Shapes:
        input_ids: (1, L), start and end tokens included; last_token: (1,), the index of the token that is pooled.
    """

    input_ids: NDArray[np.int64]
    last_token: NDArray[np.int64]
    truncated: bool


class TextTokenizer:
    """A `tokenizers` JSON file, cut at `max_length` tokens; safe to use from several threads."""

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
