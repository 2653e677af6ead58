"""Preparation of an item by a model. The answers are tested over HTTP in `tests/service/web`."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
from PIL import Image

from model_store import ImagePreprocessing, Precision
from service.api.item import Item
from service.errors import Code, ServiceError
from service.models.execution import Execution, Runtime
from service.models.loaded_model import Model
from tests.support.odd_pictures import encoded, saying, with_large_metadata, with_odd_exif

PICTURES = with_large_metadata() | with_odd_exif()
PREPROCESSING = ImagePreprocessing(
    shortest_edge=32, crop=(32, 32), resample="bicubic", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
)


def model(max_image_pixels: int = 1_000, decode_bytes: int = 10**8) -> Model:
    manifest: Any = SimpleNamespace(image=PREPROCESSING)
    unused: Any = None
    return Model(manifest, unused, unused, unused, unused, max_image_pixels, decode_bytes)


def png(size: tuple[int, int] = (10, 10)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("precision", "fixed_scales", "alone"),
    [("int8", False, True), ("int8", True, False), ("fp32", False, False), ("bf16", False, False)],
)
@pytest.mark.parametrize("runtime", Runtime)
def test_only_int8_that_scales_by_the_range_of_a_batch_runs_alone(runtime, precision, fixed_scales, alone):
    graphs = {each: SimpleNamespace(fixed_scales=fixed_scales and each is Precision.INT8) for each in Precision}
    manifest, unused = cast("Any", SimpleNamespace(graphs=graphs)), cast("Any", None)

    loaded = Model(manifest, unused, unused, unused, unused, 1_000, 10**8)

    assert loaded.runs_alone(Execution(runtime, Precision(precision))) == alone


def test_pixel_values_have_a_batch_of_one():
    prepared = model(max_image_pixels=2_000).prepare(Item(image=png()))

    assert prepared.pixel_values.shape == (1, 3, 32, 32)
    assert prepared.tokens is None


@pytest.mark.parametrize("name", PICTURES)
def test_odd_and_large_metadata_is_no_reason_to_refuse_a_picture(name):
    prepared = model(max_image_pixels=10_000, decode_bytes=2 * 10**7).prepare(Item(image=PICTURES[name]))

    assert prepared.pixel_values.shape == (1, 3, 32, 32)


@pytest.mark.parametrize(("mode", "edge"), [("L", 520), ("RGB", 520), ("RGBA", 450)])
def test_an_avif_is_refused_if_its_decoder_would_need_more_than_the_budget(mode, edge):
    data = encoded("AVIF", Image.new(mode, (edge, edge)))
    header = saying(data, 8, 8)

    assert model(10**6, decode_bytes=10**7).prepare(Item(image=data)).pixel_values is not None
    for picture, pixels, decode_bytes in ((data, 10**6, 10**6), (header, 10**6, 10**6), (header, edge, 10**7)):
        with pytest.raises(ServiceError) as caught:
            model(pixels, decode_bytes).prepare(Item(image=picture))
        assert caught.value.code == Code.IMAGE_TOO_MANY_PIXELS


@pytest.mark.parametrize("kind", ["AVIF", "WEBP"])
def test_a_format_that_pillow_was_built_without_is_refused_as_its_format(kind, monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda name: name != kind.lower())

    with pytest.raises(ServiceError) as caught:
        model().prepare(Item(image=encoded(kind)))

    assert caught.value.code == Code.IMAGE_FORMAT
    assert "install the wheel of Pillow, or send another format" in caught.value.detail


@pytest.mark.parametrize(
    ("data", "limits", "code", "detail"),
    [
        (
            b"BM",
            {},
            Code.IMAGE_FORMAT,
            "Send a JPEG, PNG, WebP, AVIF or GIF file; an image is never fetched from a URL.",
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
            {"max_image_pixels": 2_000, "decode_bytes": 100},
            Code.IMAGE_TOO_MANY_PIXELS,
            "Decoding an image may take 100 bytes; send fewer pixels, or a baseline JPEG.",
        ),
    ],
)
def test_a_picture_that_cannot_be_used_is_refused(data: bytes, limits: dict[str, int], code: Code, detail: str) -> None:
    with pytest.raises(ServiceError) as refusal:
        model(**limits).prepare(Item(image=data))

    assert (refusal.value.code, refusal.value.detail) == (code, detail)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_picture_may_take_the_limit_and_not_a_byte_more(kind):
    data = encoded(kind)
    size_in_bytes = model(10**6).decoding_bytes(data)

    assert model(10**6, size_in_bytes).decoding_bytes(data) == size_in_bytes
    with pytest.raises(ServiceError) as refusal:
        model(10**6, size_in_bytes - 1).decoding_bytes(data)
    assert refusal.value.code is Code.IMAGE_TOO_MANY_PIXELS
