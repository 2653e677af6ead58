"""From encoded bytes to `pixel_values`, compared with transformers' own image processor.

Covers model_store.items.pixels.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from model_store import ImagePreprocessing
from model_store.items import pixels
from model_store.items.pictures import PictureError, PictureProblem, decode, decoding_bytes, media_type_of, pixel_values
from model_store.items.pixels import fit, normalised
from tests.support.odd_pictures import chunk

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

CLIP = ImagePreprocessing(mean=MEAN, std=STD, **PREPROCESSINGS["clip"])


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
    return processor(picture, return_tensors="np")["pixel_values"][0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PREPROCESSINGS)
@pytest.mark.slow
def test_pixel_values_equal_transformers(name, size):
    preprocessing = ImagePreprocessing(mean=MEAN, std=STD, **PREPROCESSINGS[name])
    picture = random_picture(size)

    ours = pixel_values(file_of(picture), preprocessing)

    theirs = transformers_pixel_values(picture, preprocessing)
    assert ours.dtype == np.float32
    assert ours.shape == (3, *preprocessing.output_size)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (48, 32), (1, 256), (257, 3)])
def test_normalised_values_are_those_of_the_formula_to_the_last_bit(size):
    preprocessing = ImagePreprocessing(mean=MEAN, std=STD, exact_size=size[::-1], resample="bicubic")
    levels = np.arange(size[0] * size[1] * 3, dtype=np.uint32).astype(np.uint8).reshape(size[1], size[0], 3)

    found = normalised(Image.fromarray(levels), preprocessing)

    scaled = (levels * (1 / 255)).astype(np.float32)
    expected = (scaled - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    assert found.flags.c_contiguous
    assert found.tobytes() == np.ascontiguousarray(expected.transpose(2, 0, 1)).tobytes()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_other_modes_equal_transformers_too(mode):
    preprocessing = ImagePreprocessing(mean=MEAN, std=STD, **PREPROCESSINGS["odd crop"])
    picture = random_picture((40, 37), "L" if mode in ("P", "1") else mode).convert(mode)
    ours = pixel_values(file_of(picture), preprocessing)
    np.testing.assert_allclose(ours, transformers_pixel_values(picture, preprocessing), rtol=0, atol=1e-6)


def smooth_picture(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """A picture whose content spans many pixels, as in a photograph, and differs from side to side."""
    return random_picture((7, 5), mode).resize(size, Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, orientation: int = 1, **options) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file_of(picture, "JPEG", quality=95, exif=exif, **options)


def both_ways(data: bytes, preprocessing: ImagePreprocessing) -> tuple[np.ndarray, np.ndarray]:
    """`pixel_values` decoded at a reduced scale if possible, and at full scale."""
    return pixel_values(data, preprocessing), normalised(fit(decode(data), preprocessing), preprocessing)


@pytest.fixture
def scales(monkeypatch) -> list[int]:
    """The scales (1, 2, 4 or 8) at which JPEGs are decoded during a test."""
    seen = []
    load = JpegImageFile.load_prepare

    def load_prepare(picture: JpegImageFile) -> None:
        seen.append(picture.decoderconfig[0] if picture.decoderconfig else 1)
        load(picture)

    monkeypatch.setattr(JpegImageFile, "load_prepare", load_prepare)
    return seen


@pytest.mark.parametrize(
    ("name", "size", "scale"),
    [
        ("clip", (895, 1200), 1),  # half of it is less than twice 224
        ("clip", (1200, 896), 2),
        ("clip", (1793, 1793), 4),
        ("clip", (3600, 3584), 8),
        ("clip", (224, 4000), 1),  # elongated: the shorter edge decides
        ("clip", (4000, 1000), 2),
        ("odd crop", (4000, 527), 4),
        ("odd crop", (4000, 528), 8),
        ("exact", (191, 1000), 1),
        ("exact", (192, 1000), 2),  # the edge that is resized least decides
        ("exact", (1000, 128), 2),
        ("exact and crop", (1000, 1000), 8),
    ],
)
def test_a_large_jpeg_is_decoded_at_the_smallest_scale_of_at_least_twice_the_target(name, size, scale, scales):
    preprocessing = ImagePreprocessing(mean=MEAN, std=STD, **PREPROCESSINGS[name])

    picture = decode(jpeg(smooth_picture(size)), preprocessing=preprocessing)

    assert scales == [scale]
    assert picture.size == preprocessing.output_size[::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["odd crop", "padding crop", "exact"])
def test_a_reduced_jpeg_is_resized_and_cropped_like_the_full_one_in_every_orientation(name, orientation, scales):
    """The sizes are odd: only part of the last row and column of a reduced picture belongs to the picture."""
    preprocessing = ImagePreprocessing(mean=MEAN, std=STD, **PREPROCESSINGS[name])

    reduced, whole = both_ways(jpeg(smooth_picture((1003, 619)), orientation), preprocessing)

    assert scales[0] > 1
    assert reduced.shape == whole.shape
    np.testing.assert_allclose(reduced, whole, rtol=0, atol=0.05)  # 3 of 255 levels


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": "4:4:4"}, {"subsampling": "4:2:0"}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_every_kind_of_jpeg_is_reduced(mode, options, scales):
    preprocessing = ImagePreprocessing(mean=MEAN, std=STD, **PREPROCESSINGS["odd crop"])

    reduced, whole = both_ways(jpeg(smooth_picture((803, 619), mode), **options), preprocessing)

    assert scales == [8, 1]
    np.testing.assert_allclose(reduced, whole, rtol=0, atol=0.05)


@pytest.mark.parametrize("size", [(895, 1200), (300, 200), (5, 900)])
def test_a_small_jpeg_is_decoded_at_full_scale(size):
    reduced, whole = both_ways(jpeg(smooth_picture(size), 6), CLIP)

    np.testing.assert_array_equal(reduced, whole)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "AVIF", "GIF"])
@pytest.mark.slow
def test_other_formats_are_decoded_at_full_scale(file_format):
    preprocessing = ImagePreprocessing(mean=MEAN, std=STD, **PREPROCESSINGS["odd crop"])

    reduced, whole = both_ways(file_of(random_picture((803, 619)), file_format), preprocessing)

    np.testing.assert_array_equal(reduced, whole)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(60, 41), (90, 7), (7, 90)])
@pytest.mark.slow
def test_a_large_picture_is_resized_in_parts_to_the_same_pixels(size, mode, orientation, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = random_picture(size, "L").convert(mode) if mode in ("1", "P") else random_picture(size, mode)
    data = file_of(picture, exif=exif, **({"transparency": 3} if mode in ("L", "P") else {}))
    for name in PREPROCESSINGS:
        preprocessing = ImagePreprocessing(mean=MEAN, std=STD, **PREPROCESSINGS[name])
        at_once = decode(data, preprocessing=preprocessing)
        with monkeypatch.context() as small:
            small.setattr(pixels, "LARGE_PIXELS", 10)
            small.setattr(pixels, "BAND_PIXELS", 300)
            in_parts = decode(data, preprocessing=preprocessing)

        np.testing.assert_array_equal(np.asarray(in_parts), np.asarray(at_once))


def test_a_jpegs_pixels_are_counted_at_full_scale_before_decoding():
    data = jpeg(smooth_picture((1000, 1001)))
    header = data[: data.index(b"\xff\xda") + 20]
    with pytest.raises(PictureError) as caught:
        decode(header, 1_000_000, CLIP)
    assert caught.value.problem is PictureProblem.PIXELS
    with pytest.raises(PictureError) as caught:
        decode(header, 1_001_000, CLIP)
    assert caught.value.problem is PictureProblem.UNDECODABLE


def only_colour(data: bytes) -> tuple[int, ...]:
    (colour,) = set(decode(data).get_flattened_data())
    return colour


def test_transparent_pixels_become_white():
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert only_colour(file_of(Image.new("RGBA", (4, 4), (9, 9, 9, 0)))) == (255, 255, 255)
    assert only_colour(file_of(Image.new("RGBA", (4, 4), (0, 0, 0, 51)))) == (204, 204, 204)
    assert only_colour(file_of(Image.new("LA", (4, 4), (0, 0)))) == (255, 255, 255)
    assert only_colour(file_of(palette, transparency=1)) == (255, 255, 255)
    assert only_colour(file_of(palette)) == (0, 255, 0)


@pytest.mark.parametrize(
    ("depth", "colour", "transparent", "other", "seen"),
    [
        (1, 0, 0b1, 0b0, 0),
        (2, 0, 1, 2, 170),
        (4, 0, 8, 3, 51),
        (8, 0, 0x80, 0x20, 0x20),
        (16, 0, 0x8000, 0x8001, 0x80),
        (16, 0, 0, 0x2000, 0x20),
        (8, 2, 0x80, 0x20, 0x20),
        (16, 2, 0x80FF, 0x20FF, 0x20),
    ],
)
def test_the_transparent_colour_of_a_png_becomes_white_at_every_depth(depth, colour, transparent, other, seen):
    channels = 3 if colour == 2 else 1
    line = [transparent] * channels * 4 + [other] * channels * 4
    bits = np.packbits([sample >> shift & 1 for sample in line for shift in reversed(range(depth))])
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 8, 2, depth, colour, 0, 0, 0)),
        (b"tRNS", transparent.to_bytes(2, "big") * channels),
        (b"IDAT", zlib.compress((b"\0" + bits.tobytes()) * 2)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts)

    white, grey = (255, 255, 255), (seen, seen, seen)
    assert [tuple(pixel) for pixel in np.asarray(decode(data))[1]] == [white] * 4 + [grey] * 4


def test_the_transparent_grey_of_a_large_picture_becomes_white(monkeypatch):
    picture = Image.fromarray(np.repeat(np.array([[0x1234], [0x8000]], np.uint16), 64, axis=1))
    data = file_of(picture, transparency=0x1234)
    exact = ImagePreprocessing(exact_size=(2, 64), resample="nearest", mean=(0, 0, 0), std=(1, 1, 1))
    monkeypatch.setattr(pixels, "LARGE_PIXELS", 100)

    assert np.asarray(decode(data, preprocessing=exact))[:, 0, 0].tolist() == [255, 128]


def test_sixteen_bit_grey_keeps_its_brightness():
    grey = Image.fromarray(np.full((4, 4), 0x80FF, np.uint16))
    assert only_colour(file_of(grey)) == (0x80, 0x80, 0x80)


def test_cmyk_becomes_rgb():
    red, green, blue = only_colour(file_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert red > 200
    assert max(green, blue) < 60


def test_a_picture_is_turned_upright():
    picture = Image.new("RGB", (30, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn a quarter right
    for file_format in ("JPEG", "PNG", "WEBP", "AVIF"):
        assert decode(file_of(picture, file_format, exif=exif)).size == (20, 30)


@pytest.mark.parametrize(
    ("file_format", "options"), [("WEBP", {"lossless": True}), ("PNG", {}), ("AVIF", {}), ("GIF", {})]
)
def test_only_the_first_frame_is_decoded(file_format, options):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = file_of(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    red, green, blue = only_colour(data)
    assert red > 250
    assert max(green, blue) < 5


def test_pixels_are_counted_before_decoding():
    """The file ends where its pixels begin, so decoding it would fail in another way."""
    whole = file_of(Image.new("RGB", (1001, 1000)))
    header = whole[: whole.index(b"IDAT") + 8]
    with pytest.raises(PictureError) as caught:
        decode(header, 1_000_000)
    assert caught.value.problem is PictureProblem.PIXELS
    with pytest.raises(PictureError) as caught:
        decode(header, 1_001_000)
    assert caught.value.problem is PictureProblem.UNDECODABLE


def test_a_picture_that_resizing_would_enlarge_too_much_is_refused():
    with pytest.raises(PictureError) as caught:
        decode(file_of(Image.new("RGB", (1, 65_535))), preprocessing=CLIP)
    assert caught.value.problem is PictureProblem.PIXELS


@pytest.mark.parametrize("file_format", ["BMP", "ICO", "TIFF"])
def test_other_formats_are_refused(file_format):
    data = file_of(Image.new("RGB", (4, 4)), file_format)
    for read in (decode, media_type_of):
        with pytest.raises(PictureError) as caught:
            read(data)
        assert caught.value.problem is PictureProblem.FORMAT


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF", "GIF"])
def test_the_media_type_follows_from_the_first_bytes(file_format):
    assert media_type_of(file_of(Image.new("RGB", (4, 4)), file_format)) == f"image/{file_format.lower()}"


@pytest.mark.parametrize(("file_format", "feature"), [("AVIF", "avif"), ("WEBP", "webp"), ("JPEG", "jpg")])
def test_a_format_that_pillow_was_built_without_is_named(file_format, feature, monkeypatch):
    data = file_of(Image.new("RGB", (4, 4)), file_format)
    monkeypatch.setattr("PIL.features.check", lambda name: name != feature)

    with pytest.raises(PictureError, match=r"built without .* here; install the wheel of Pillow") as caught:
        decode(data)

    assert caught.value.problem is PictureProblem.DECODER
    assert decode(file_of(Image.new("RGB", (4, 4)))).size == (4, 4)


def test_a_file_and_its_bytes_give_the_same_picture(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(file_of(random_picture((40, 30))))
    np.testing.assert_array_equal(pixel_values(path, CLIP), pixel_values(path.read_bytes(), CLIP))


def until_pixels(file_format: str) -> bytes:
    """A picture of 40 x 30 whose file ends where its pixels begin."""
    data = file_of(random_picture((40, 30)), file_format)
    return data[: data.index({"PNG": b"IDAT", "JPEG": b"\xff\xda"}[file_format]) + 20]


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("preprocessing", [None, CLIP])
def test_the_memory_for_decoding_is_known_from_the_header(file_format, preprocessing):
    assert decoding_bytes(until_pixels(file_format), preprocessing=preprocessing) >= 4 * 40 * 30
    with pytest.raises(PictureError):
        decode(until_pixels(file_format), preprocessing=preprocessing)


@pytest.mark.parametrize(
    ("data", "max_pixels", "problem"),
    [
        (b"II*\0", 10**6, PictureProblem.FORMAT),
        (until_pixels("PNG"), 1_199, PictureProblem.PIXELS),
        (until_pixels("JPEG"), 1_199, PictureProblem.PIXELS),
        (file_of(Image.new("RGB", (1, 9_999))), 10**6, PictureProblem.PIXELS),  # after resizing
        (b"\x89PNG\r\n\x1a\n", 10**6, PictureProblem.UNDECODABLE),
        (b"RIFF\xff\0\0\0WEBPVP8 ", 10**6, PictureProblem.UNDECODABLE),
    ],
)
def test_the_header_is_refused_as_by_decoding(data, max_pixels, problem):
    for read in (decode, decoding_bytes):
        with pytest.raises(PictureError) as caught:
            read(data, max_pixels, CLIP)
        assert caught.value.problem is problem
