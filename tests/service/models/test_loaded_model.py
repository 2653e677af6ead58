"""Preparation of an item by a model. The answers are tested over HTTP in `tests/service/web`."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from model_store import ImagePreprocessing, Precision
from service.api.item import Item
from service.errors import Code, ServiceError
from service.models.loaded_model import Model
from service.models.preparation import MemoryBudget

PREPROCESSING = ImagePreprocessing(
    shortest_edge=32, crop=(32, 32), resample="bicubic", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
)


def model(max_image_pixels: int = 1_000, decode_bytes: int = 10**8) -> Model:
    manifest: Any = SimpleNamespace(image=PREPROCESSING)
    unused: Any = None
    budget = MemoryBudget(decode_bytes)
    return Model(manifest, Precision.FP32, unused, unused, unused, unused, max_image_pixels, budget)


def png(size: tuple[int, int] = (10, 10)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size).save(file, "PNG")
    return file.getvalue()


def test_pixel_values_have_a_batch_of_one():
    prepared = model(max_image_pixels=2_000).prepare(Item(image=png()))

    assert prepared.pixel_values.shape == (1, 3, 32, 32)
    assert prepared.tokens is None


@pytest.mark.parametrize(
    ("data", "limits", "code", "detail"),
    [
        (
            b"GIF89a",
            {},
            Code.IMAGE_FORMAT,
            "Send a JPEG, PNG, WebP or AVIF file; an image is never fetched from a URL.",
        ),
        (
            png((40, 40)),
            {},
            Code.IMAGE_TOO_MANY_PIXELS,
            "An image may have 1000 pixels, before and after it is resized; send a smaller one.",
        ),
        (
            png((1, 900)),
            {},
            Code.IMAGE_TOO_MANY_PIXELS,
            "An image may have 1000 pixels, before and after it is resized; send a smaller one.",
        ),
        (
            png()[:45],
            {"max_image_pixels": 2_000},
            Code.IMAGE_UNDECODABLE,
            "The PNG file is damaged or cut short; send it whole.",
        ),
        (
            png(),
            {"decode_bytes": 100},
            Code.IMAGE_TOO_MANY_PIXELS,
            "Decoding an image may take 100 bytes; send fewer pixels, or a baseline JPEG.",
        ),
    ],
)
def test_a_picture_that_cannot_be_used_is_refused(data: bytes, limits: dict[str, int], code: Code, detail: str) -> None:
    with pytest.raises(ServiceError) as refusal:
        model(**limits).prepare(Item(image=data))

    assert (refusal.value.code, refusal.value.detail) == (code, detail)
