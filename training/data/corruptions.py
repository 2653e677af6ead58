"""Damaged copies of items, as the world sends them: poor pictures and hasty texts, in three strengths."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

from model_store.items.pictures import decode
from training.data.examples import Example

STRENGTHS = (1, 2, 3)
_LONGEST_EDGE = 1024  # of a picture before it is damaged; towers see it smaller
_BLUR = (0.01, 0.02, 0.04)  # standard deviation of the blur, of the shorter edge
_KEPT = (0.9, 0.7, 0.5)  # of each edge, after cropping
_NOISE = (0.1, 0.2, 0.4)  # standard deviation, of the range of a channel
_DROPPED = (0.2, 0.4, 0.6)  # of the words
_MISSPELT = (0.2, 0.5, 0.8)  # of the words


def with_damaged_picture(item: Example, kind: str, strength: int) -> Example:
    """The item with its picture damaged, equal each time; as it is without a picture.

    Args:
        kind: one of PICTURE_KINDS.
        strength: one of STRENGTHS.
    """
    if item.image is None:
        return item
    picture = decode(item.image)
    picture.thumbnail((_LONGEST_EDGE, _LONGEST_EDGE))
    file = BytesIO()
    PICTURE_KINDS[kind](picture, strength - 1, _dice(item, kind, strength)).save(file, "PNG", compress_level=1)
    return replace(item, image=file.getvalue())


def with_damaged_text(item: Example, kind: str, strength: int) -> Example:
    """The item with its text damaged, by one of TEXT_KINDS; otherwise as `with_damaged_picture`."""
    if item.text is None:
        return item
    return replace(item, text=TEXT_KINDS[kind](item.text, strength - 1, _dice(item, kind, strength)))


def _dice(item: Example, kind: str, strength: int) -> np.random.Generator:
    return np.random.default_rng([item.row, strength, zlib.crc32(kind.encode())])


def _blurred(picture: Image.Image, level: int, dice: np.random.Generator) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(_BLUR[level] * min(picture.size)))


def _cropped(picture: Image.Image, level: int, dice: np.random.Generator) -> Image.Image:
    """A part somewhere in the picture."""
    width, height = (max(1, round(_KEPT[level] * edge)) for edge in picture.size)
    left, top = (
        int(dice.integers(0, edge - kept + 1)) for edge, kept in zip(picture.size, (width, height), strict=True)
    )
    return picture.crop((left, top, left + width, top + height))


def _noisy(picture: Image.Image, level: int, dice: np.random.Generator) -> Image.Image:
    pixels = np.asarray(picture, np.float32)
    noise = dice.normal(0.0, 255 * _NOISE[level], pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _with_dropped_words(text: str, level: int, dice: np.random.Generator) -> str:
    """At least one word stays."""
    words = text.split()
    kept = dice.random(len(words)) >= _DROPPED[level]
    kept[dice.integers(len(words))] = True
    return " ".join(word for word, stays in zip(words, kept, strict=True) if stays)


def _misspelt(text: str, level: int, dice: np.random.Generator) -> str:
    """In some words of two or more letters, two neighbours change places, or a letter is left out or doubled."""
    words = text.split()
    for place, word in enumerate(words):
        if len(word) > 1 and dice.random() < _MISSPELT[level]:
            at, what = int(dice.integers(len(word) - 1)), dice.integers(3)
            first, second, rest = word[at], word[at + 1], word[at + 2 :]
            words[place] = word[:at] + (second + first, second, first + first + second)[what] + rest
    return " ".join(words)


PICTURE_KINDS: dict[str, Callable[[Image.Image, int, np.random.Generator], Image.Image]] = {
    "blurred": _blurred,
    "cropped": _cropped,
    "noisy": _noisy,
}
TEXT_KINDS: dict[str, Callable[[str, int, np.random.Generator], str]] = {
    "words dropped": _with_dropped_words,
    "words misspelt": _misspelt,
}
