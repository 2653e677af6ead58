"""Pictures as histograms of oriented gradients and of colours, as before pretrained models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from model_store import ImagePreprocessing
from model_store.items.pictures import decode
from training.data.examples import Example
from training.errors import naming_row, picture_errors

Floats = NDArray[np.float32]
_SIDE = 64  # pixels of a picture that is described
_WHOLE = ImagePreprocessing(exact_size=(_SIDE, _SIDE), resample="bicubic", mean=(0, 0, 0), std=(1, 1, 1))
_CELL = 8  # pixels
_ORIENTATIONS = 9
_TINY, _CLIP = 1e-5, 0.2  # of L2-Hys


class PictureFeatures:
    """The features of items' pictures. Each picture is read once."""

    def __init__(self) -> None:
        self._known: dict[bytes | Path | None, Floats] = {}

    def of(self, items: Sequence[Example]) -> Floats:
        """(n, 1892) of items that have a picture. Raises DataError, which names the row and the file."""
        new = {_key(item): item for item in items if _key(item) not in self._known}
        for key, item in track(new.items(), "describing pictures") if new else ():
            with naming_row(item.row):
                self._known[key] = picture_features(item.image or b"")
        return np.stack([self._known[_key(item)] for item in items])


def _key(item: Example) -> bytes | Path | None:
    return item.picture or item.image


def picture_features(image: bytes | Path) -> Floats:
    """(1892,) of an encoded picture or its file, whatever its aspect ratio. Raises DataError."""
    with picture_errors(image):
        picture = decode(image, preprocessing=_WHOLE)
    return np.concatenate([_gradients(picture), _colours(picture)]).astype(np.float32)


def _gradients(picture: Image.Image) -> NDArray[np.float64]:
    """(7 * 7 * 36,): Dalal and Triggs 2005, as `skimage.feature.hog` with cells of 8 pixels and blocks of 2 cells."""
    grey = np.asarray(picture.convert("L"), dtype=np.float64)
    down, right = np.zeros_like(grey), np.zeros_like(grey)
    down[1:-1], right[:, 1:-1] = grey[2:] - grey[:-2], grey[:, 2:] - grey[:, :-2]
    strength, angle = np.hypot(down, right), np.rad2deg(np.arctan2(down, right)) % 180
    cells, bins = _SIDE // _CELL, (angle * _ORIENTATIONS / 180).astype(int) % _ORIENTATIONS
    cell = np.arange(_SIDE) // _CELL
    histograms = np.zeros((cells, cells, _ORIENTATIONS))
    np.add.at(histograms, (cell[:, None], cell[None, :], bins), strength / _CELL**2)
    corners = ((0, 0), (0, 1), (1, 0), (1, 1))
    blocks = np.concatenate([histograms[y : cells - 1 + y, x : cells - 1 + x] for y, x in corners], axis=-1)
    return _unit(np.minimum(_unit(blocks), _CLIP)).ravel()


def _unit(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    length: NDArray[np.float64] = np.sqrt((blocks**2).sum(axis=-1, keepdims=True) + _TINY**2)
    return blocks / length


def _colours(picture: Image.Image) -> NDArray[np.float64]:
    """(128,): the square root of the share of the pixels in each bin."""
    hue, saturation, value = (np.asarray(channel, dtype=int) for channel in picture.convert("HSV").split())
    bins = hue // 32 * 16 + saturation // 64 * 4 + value // 64  # 8 of hue, 4 of saturation, 4 of value
    shares: NDArray[np.float64] = np.bincount(bins.ravel(), minlength=8 * 4 * 4) / bins.size
    return np.asarray(np.sqrt(shares))
