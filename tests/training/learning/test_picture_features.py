"""Histograms of gradients and colours of a picture, and that each picture is read once."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.examples import Example
from training.errors import DataError
from training.learning import picture_features as module
from training.learning.picture_features import PictureFeatures, picture_features

GRADIENTS = 7 * 7 * 36


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, kind)
    return file.getvalue()


def stripes(angle: float, side: int = 64) -> bytes:
    """Waves that rise in this direction, in degrees from the right downwards."""
    y, x = np.mgrid[:side, :side]
    along = x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle))
    return encoded(np.repeat((127 + 100 * np.sin(along * 2 * np.pi / 16))[..., None], 3, axis=2))


@pytest.mark.parametrize(("angle", "bin_"), [(10, 0), (50, 2), (90, 4), (130, 6), (170, 8)])
def test_the_strongest_orientation_is_that_of_the_picture(angle: float, bin_: int) -> None:
    gradients = picture_features(stripes(angle))[:GRADIENTS].reshape(-1, 9)

    assert gradients.sum(axis=0).argmax() == bin_


@pytest.mark.parametrize(
    ("colour", "bins"),
    [((255, 0, 0), (0, 3, 3)), ((0, 255, 0), (2, 3, 3)), ((0, 0, 0), (0, 0, 0)), ((255, 255, 255), (0, 0, 3))],
)
def test_a_plain_picture_has_one_colour_and_no_gradient(colour: tuple[int, int, int], bins: tuple[int, ...]) -> None:
    features = picture_features(encoded(np.full((40, 40, 3), colour)))

    assert not features[:GRADIENTS].any()
    colours = features[GRADIENTS:].reshape(8, 4, 4)
    assert colours[bins] == 1
    assert np.count_nonzero(colours) == 1


@pytest.mark.parametrize(
    ("seed", "values", "total"),
    [
        (0, [0.21709, 0.11357, 0.14318, 0.13999], 277.93),
        (1, [0.2282, 0.14487, 0.22309, 0.21006], 278.473),
        (2, [0.14264, 0.22766, 0.10552, 0.09474], 277.686),
    ],
)
def test_the_gradients_are_those_of_scikit_image(seed: int, values: list[float], total: float) -> None:
    """`skimage.feature.hog` 0.26 of the same pictures in grey: values 0, 100, 900 and 1763, and the sum."""
    gradients = picture_features(encoded(np.random.default_rng(seed).integers(0, 256, (64, 64, 3))))[:GRADIENTS]

    assert gradients[[0, 100, 900, 1763]] == pytest.approx(values, abs=1e-5)
    assert gradients.sum() == pytest.approx(total, abs=1e-3)


def test_blocks_are_normalised_and_clipped() -> None:
    """Of L2-Hys: every block has length one, and no value is far above the clip of 0.2 before the last division."""
    blocks = picture_features(encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3))))[:GRADIENTS].reshape(
        -1, 36
    )

    assert np.linalg.norm(blocks, axis=1) == pytest.approx(np.ones(49), abs=1e-4)
    assert blocks.max() < 0.3


@pytest.mark.parametrize("size", [(64, 64), (300, 20), (1, 1), (9, 700)])
@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_a_picture_of_any_size_and_format_has_the_same_number_of_features(size: tuple[int, int], kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3))

    features = picture_features(encoded(pixels, kind))

    assert (features.shape, features.dtype) == ((1892,), np.float32)
    assert np.isfinite(features).all()


def test_each_picture_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []

    def decoded(image: object, preprocessing: object) -> Image.Image:
        read.append(image)
        return Image.new("RGB", (64, 64))

    monkeypatch.setattr(module, "decode", decoded)
    file = tmp_path / "a.png"
    items = [
        Example(1, b"a", None, (), picture=b"1"),
        Example(2, file, None, (), picture=b"1"),  # equal to the first
        Example(3, b"b", None, ()),
        Example(4, file, None, ()),
    ]

    pictures = PictureFeatures()
    first, again = pictures.of(items), pictures.of(items[::-1])

    assert read == [file, b"b", file]
    assert first.shape == again.shape == (4, 1892)


@pytest.mark.parametrize("image", [b"no picture", stripes(10)[:80], Path("gone.png")])
def test_a_picture_that_cannot_be_read_names_its_row(image: bytes | Path) -> None:
    with pytest.raises(DataError, match=r"^row 7: [^\n]+$"):
        PictureFeatures().of([Example(7, image, None, ())])


def test_features_are_in_the_order_of_the_items(png: Callable[..., bytes]) -> None:
    items = [Example(row, png(row), None, ()) for row in range(3)]

    features = PictureFeatures().of(items[::-1])

    np.testing.assert_array_equal(features, [picture_features(png(row)) for row in (2, 1, 0)])
