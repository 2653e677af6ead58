from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from model_store import ImagePreprocessing
from service.errors import Code, ServiceError
from service.images import decode, pixel_values

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZES = [
    (1, 1),
    (2, 3),
    (1, 400),
    (400, 1),
    (7, 1000),
    (1000, 7),
    (31, 32),
    (32, 33),
    (224, 224),
    (225, 223),
    (640, 427),
]
PREPROCESSINGS = {
    "clip": {"shortest_edge": 224, "crop": (224, 224), "resample": "bicubic"},
    "odd crop": {"shortest_edge": 33, "crop": (31, 33), "resample": "bilinear"},
    "padding crop": {"shortest_edge": 20, "crop": (33, 24), "resample": "lanczos"},
    "exact": {"exact_size": (32, 48), "resample": "bicubic"},
    "exact and crop": {"exact_size": (40, 36), "crop": (32, 32), "resample": "box"},
}


def random_picture(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    return Image.frombytes(mode, size, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8).tobytes())


def file_of(picture: Image.Image, file_format: str = "PNG", **options) -> bytes:
    file = BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def transformers_pixel_values(picture: Image.Image, preprocessing: ImagePreprocessing) -> np.ndarray:
    if preprocessing.exact_size:
        size = dict(zip(("height", "width"), preprocessing.exact_size, strict=True))
    else:
        size = {"shortest_edge": preprocessing.shortest_edge}
    crop = preprocessing.crop and dict(zip(("height", "width"), preprocessing.crop, strict=True))
    processor = CLIPImageProcessorPil(
        size=size,
        do_center_crop=crop is not None,
        crop_size=crop,
        resample=Image.Resampling[preprocessing.resample.upper()],
        image_mean=list(preprocessing.mean),
        image_std=list(preprocessing.std),
    )
    return processor(picture, return_tensors="np")["pixel_values"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_pixel_values_equal_transformers(name, size):
    preprocessing = ImagePreprocessing(mean=MEAN, std=STD, **PREPROCESSINGS[name])
    picture = random_picture(size)

    ours = pixel_values(decode(file_of(picture), 10**9), preprocessing, 10**9)

    theirs = transformers_pixel_values(picture, preprocessing)
    assert ours.dtype == np.float32
    assert ours.shape == (1, 3, *preprocessing.output_size)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_other_modes_equal_transformers_too(mode):
    preprocessing = ImagePreprocessing(mean=MEAN, std=STD, **PREPROCESSINGS["odd crop"])
    picture = random_picture((40, 37), "L" if mode in ("P", "1") else mode).convert(mode)
    ours = pixel_values(decode(file_of(picture), 10**9), preprocessing, 10**9)
    np.testing.assert_allclose(ours, transformers_pixel_values(picture, preprocessing), rtol=0, atol=1e-6)


def only_colour(data: bytes) -> tuple[int, ...]:
    (colour,) = set(decode(data, 10**6).get_flattened_data())
    return colour


def test_what_is_transparent_is_white():
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert only_colour(file_of(Image.new("RGBA", (4, 4), (9, 9, 9, 0)))) == (255, 255, 255)
    assert only_colour(file_of(Image.new("RGBA", (4, 4), (0, 0, 0, 51)))) == (204, 204, 204)
    assert only_colour(file_of(Image.new("LA", (4, 4), (0, 0)))) == (255, 255, 255)
    assert only_colour(file_of(palette, transparency=1)) == (255, 255, 255)
    assert only_colour(file_of(palette)) == (0, 255, 0)


def test_sixteen_bit_grey_keeps_its_brightness():
    grey = Image.fromarray(np.full((4, 4), 0x80FF, np.uint16))
    assert only_colour(file_of(grey)) == (0x80, 0x80, 0x80)


def test_cmyk_becomes_rgb():
    red, green, blue = only_colour(file_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert red > 200
    assert max(green, blue) < 60


def test_the_camera_s_rotation_is_undone():
    picture = Image.new("RGB", (30, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn a quarter right
    for file_format in ("JPEG", "PNG", "WEBP"):
        assert decode(file_of(picture, file_format, exif=exif), 10**6).size == (20, 30)


def test_only_the_first_frame_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = file_of(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert only_colour(data) == (255, 0, 0)


def test_pixels_are_counted_before_decoding():
    """The file ends where its pixels begin, so decoding it would fail in another way."""
    whole = file_of(Image.new("RGB", (1001, 1000)))
    header = whole[: whole.index(b"IDAT") + 8]
    with pytest.raises(ServiceError) as caught:
        decode(header, 1_000_000)
    assert caught.value.code is Code.IMAGE_TOO_MANY_PIXELS
    with pytest.raises(ServiceError) as caught:
        decode(header, 1_001_000)
    assert caught.value.code is Code.IMAGE_UNDECODABLE


def test_a_picture_that_resizing_would_blow_up_is_refused():
    preprocessing = ImagePreprocessing(mean=MEAN, std=STD, **PREPROCESSINGS["clip"])
    with pytest.raises(ServiceError) as caught:
        pixel_values(Image.new("RGB", (1, 65_535)), preprocessing, 50_000_000)
    assert caught.value.code is Code.IMAGE_TOO_MANY_PIXELS
