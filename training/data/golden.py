"""Examples of each presence pattern, for comparing runtimes and for storing beside the model."""

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
from training.errors import naming_row, picture_errors

GOLDEN_ITEMS = 2  # per presence pattern
_GOLDEN_EDGE = 256  # pixels


def pattern_items(examples: Split, pattern: Pattern) -> list[Example]:
    """The items that allow a presence pattern, without their other modality.

    If no item allows it, a made-up item stands in, because the service answers patterns that training never saw.
    """
    has_image, has_text = pattern is not Pattern.TEXT, pattern is not Pattern.IMAGE
    items = [
        Example(item.row, item.image if has_image else None, item.text if has_text else None, item.labels)
        for item in examples.items
        if (item.image is not None or not has_image) and (item.text is not None or not has_text)
    ]
    return items or [Example(0, _gradient() if has_image else None, "a picture" if has_text else None, ())]


def golden_items(examples: Split) -> list[tuple[Pattern, Example]]:
    """A few items of every pattern, with their images as small PNGs. Raises DataError."""
    chosen = []
    for pattern in Pattern:
        for item in pattern_items(examples, pattern)[:GOLDEN_ITEMS]:
            with naming_row(item.row):
                image = None if item.image is None else small_png(item.image)
            chosen.append((pattern, replace(item, image=image)))
    return chosen


def small_png(image: bytes | Path) -> bytes:
    """The whole picture as a PNG of at most 256 pixels an edge. Raises DataError."""
    with picture_errors(image):
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
