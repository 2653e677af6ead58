"""Examples of each presence pattern: to compare runtimes on, and to be stored beside the model."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from model_store import Pattern
from model_store.items.pictures import decode
from training.data.examples import Example
from training.data.splits import Split

GOLDEN_ITEMS = 2  # per presence pattern
_GOLDEN_EDGE = 256  # pixels


def pattern_items(examples: Split, pattern: Pattern) -> list[Example]:
    """Items of one presence pattern: those that allow it, with the other modality removed.

    Where no item has a modality, a stand-in is used, since a pattern that training never saw is served all the same.
    """
    found = []
    for item in examples.items:
        image = item.image if pattern is not Pattern.TEXT else None
        text = item.text if pattern is not Pattern.IMAGE else None
        if (image is not None or pattern is Pattern.TEXT) and (text is not None or pattern is Pattern.IMAGE):
            found.append(Example(item.row, image, text, item.labels))
    if found:
        return found
    image = _gradient() if pattern is not Pattern.TEXT else None
    return [Example(0, image, "a picture" if pattern is not Pattern.IMAGE else None, ())]


def golden_items(examples: Split) -> list[tuple[Pattern, Example]]:
    """A few items of every pattern, their images small PNGs."""
    chosen = []
    for pattern in Pattern:
        for item in pattern_items(examples, pattern)[:GOLDEN_ITEMS]:
            image = None if item.image is None else small_png(item.image)
            chosen.append((pattern, replace(item, image=image)))
    return chosen


def small_png(image: bytes | Path) -> bytes:
    """The whole picture as a PNG of at most 256 pixels an edge."""
    small = decode(image)
    small.thumbnail((_GOLDEN_EDGE, _GOLDEN_EDGE))
    return _png(small)


def _gradient() -> bytes:
    ramp = np.linspace(0, 255, _GOLDEN_EDGE, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(128)), axis=-1)
    return _png(Image.fromarray(pixels))


def _png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
