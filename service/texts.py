"""From a text to `input_ids`, exactly as the backbone's own tokenizer does it, but without padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer


@dataclass(frozen=True)
class Tokens:
    """One text as token ids.

    Shapes:
        input_ids: (1, L), start and end tokens included; last_token: (1,), the index of the end token.
    """

    input_ids: NDArray[np.int64]
    last_token: NDArray[np.int64]
    truncated: bool


class TextTokenizer:
    """A `tokenizers` JSON file, cut at `max_length` tokens; safe to use from several threads."""

    def __init__(self, definition: bytes, max_length: int) -> None:
        self._tokenizer = Tokenizer.from_str(definition.decode())
        self._tokenizer.enable_truncation(max_length)
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a text is plain text

    def tokenize(self, text: str) -> Tokens:
        """Cut after the most tokens the tower takes, the end token kept."""
        encoding = self._tokenizer.encode(text)
        input_ids = np.array([encoding.ids], np.int64)
        return Tokens(input_ids, np.array([len(encoding.ids) - 1], np.int64), bool(encoding.overflowing))
