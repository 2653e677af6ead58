"""The first frame of GIF files, on its canvas."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from model_store import ImagePreprocessing
from model_store.items import pixels
from model_store.items.gif import still_picture
from model_store.items.pictures import PictureError, PictureProblem, decode, decoding_bytes
from tests.support.odd_pictures import encoded, gif_blocks, gif_with

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
COLOURS = Image.radial_gradient("L").convert("RGB").resize((31, 22)).quantize(200)
PLAIN = encoded("GIF", COLOURS)


def frame(
    indices: list[int], size: tuple[int, int], place: tuple[int, int] = (0, 0), palette: bytes = b"", flags: int = 0
) -> bytes:
    """A frame of few pixels with indices below 4, each as a code of its own."""
    codes = [code for index in indices for code in (4, index)] + [5]  # clears the table before each
    packed = sum(code << 3 * number for number, code in enumerate(codes)).to_bytes(-(-3 * len(codes) // 8), "little")
    flags |= 0x81 if palette else 0
    return struct.pack("<sHHHHB", b",", *place, *size, flags) + palette + b"\2" + bytes([len(packed)]) + packed + b"\0"


def gif(
    *blocks: bytes, canvas: tuple[int, int] = (2, 2), palette: bytes = bytes([*RED, *GREEN, *BLUE, *WHITE])
) -> bytes:
    header = struct.pack("<6sHHBBB", b"GIF89a", *canvas, 0x81 if palette else 0, 0, 0)
    return header + palette + b"".join(blocks) + b";"


def control(flags: int, colour: int = 0) -> bytes:
    return gif_blocks(0xF9, bytes([flags, 0, 0, colour]))


def colours(data: bytes) -> list[tuple[int, ...]]:
    """Row by row."""
    return [*decode(data).get_flattened_data()]


FOUR = frame([0, 1, 2, 1], (2, 2))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (gif(FOUR), [RED, GREEN, BLUE, GREEN]),
        (gif(FOUR).replace(b"GIF89a", b"GIF87a"), [RED, GREEN, BLUE, GREEN]),
        (gif(control(0b1, 1), FOUR), [RED, WHITE, BLUE, WHITE]),
        (gif(control(0b1, 1), gif_blocks(0xFE, b"a"), FOUR), [RED, WHITE, BLUE, WHITE]),
        (gif(control(0b1, 1), control(0b1, 0), FOUR), [WHITE, GREEN, BLUE, GREEN]),
        (gif(control(0b0, 1), FOUR), [RED, GREEN, BLUE, GREEN]),
        (gif(control(0b1, 200), FOUR), [RED, GREEN, BLUE, GREEN]),
        (gif(frame([0, 1, 2, 1], (2, 2), palette=bytes(3) + bytes([*BLUE, *RED, *RED]))), [(0, 0, 0), BLUE, RED, BLUE]),
        (gif(FOUR, palette=b""), [(0, 0, 0), (1, 1, 1), (2, 2, 2), (1, 1, 1)]),
        (
            gif(frame([0, 1, 2, 1], (1, 4), flags=0x40), canvas=(1, 4)),
            [RED, BLUE, GREEN, GREEN],
        ),
        (gif(FOUR)[:-1], [RED, GREEN, BLUE, GREEN]),
        (gif(FOUR) + b"<script>", [RED, GREEN, BLUE, GREEN]),
    ],
)
def test_a_frame_is_read_with_its_palette_and_transparent_colour(data, expected):
    assert colours(data) == expected


@pytest.mark.parametrize(
    ("data", "size", "expected"),
    [
        (gif(frame([0], (1, 1))), (2, 2), [RED, WHITE, WHITE, WHITE]),
        (gif(frame([1], (1, 1), (1, 1))), (2, 2), [WHITE, WHITE, WHITE, GREEN]),
        (gif(frame([1, 2], (1, 2), (1, 0))), (2, 2), [WHITE, GREEN, WHITE, BLUE]),
        (gif(control(0b1, 0), frame([1], (1, 1), (0, 1))), (2, 2), [WHITE, WHITE, GREEN, WHITE]),
        (gif(frame([1], (1, 1), (1, 1)), palette=b""), (2, 2), [WHITE, WHITE, WHITE, (1, 1, 1)]),
        (gif(frame([1], (1, 1), (2, 0)), canvas=(1, 1)), (3, 1), [WHITE, WHITE, GREEN]),
        (gif(FOUR, canvas=(0, 0)), (2, 2), [RED, GREEN, BLUE, GREEN]),
    ],
)
def test_the_canvas_around_the_frame_is_white_and_the_frame_may_enlarge_it(data, size, expected):
    assert decode(data).size == size
    assert colours(data) == expected


@pytest.mark.parametrize("disposal", range(8))
def test_frames_after_the_first_do_not_matter(disposal):
    frames = [control(disposal << 2), FOUR, control(disposal << 2 | 1), frame([2], (1, 1), (1, 1)), b"no block"]

    assert colours(gif(*frames)) == colours(gif(FOUR))


@pytest.mark.parametrize("place", [(0, 0), (5, 9), (60, 1)])
def test_a_large_partial_frame_is_resized_in_bands_to_the_same_pixels(place, monkeypatch):
    data = bytearray(PLAIN)
    data[6:10] = struct.pack("<HH", 70, 40)
    start = 13 + (3 << (data[10] & 7) + 1)
    data[start + 1 : start + 5] = struct.pack("<HH", *place)
    preprocessing = ImagePreprocessing(
        shortest_edge=20, crop=(20, 30), resample="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    )
    at_once = np.asarray(decode(bytes(data), preprocessing=preprocessing))

    monkeypatch.setattr(pixels, "LARGE_PIXELS", 10)
    monkeypatch.setattr(pixels, "BAND_PIXELS", 300)

    np.testing.assert_array_equal(np.asarray(decode(bytes(data), preprocessing=preprocessing)), at_once)


@pytest.mark.parametrize("end", [*range(0, len(PLAIN) - 2, 13), len(PLAIN) - 3])
def test_every_cut_file_is_refused(end):
    with pytest.raises(PictureError):
        decode(PLAIN[:end])


@pytest.mark.parametrize(
    "data",
    [
        gif(),
        gif(gif_blocks(0xFE, b"nothing but a comment")),
        gif(b"\0", FOUR),
        gif(b"!"),
        gif(b"!\xfe\xff"),
        gif(frame([], (2, 2))),
        gif(frame([0, 1, 2], (2, 2))),
        gif(frame([], (0, 0))),
        gif(frame([], (0, 2))),
        gif(FOUR.replace(b"\2", b"\x0d", 1)),
        gif_with(gif_blocks(0xFE, b"x" * 200_000, size=1)),
        gif_with(gif_blocks(0xFE, b"") * 60_000),
    ],
)
def test_damage_and_too_many_blocks_are_refused(data):
    with pytest.raises(PictureError) as caught:
        decode(data)
    assert caught.value.problem is PictureProblem.UNDECODABLE


@pytest.mark.parametrize("disposal", range(4))
@pytest.mark.parametrize(
    ("canvas", "size", "place"),
    [
        ((1001, 1000), (2, 2), (0, 0)),
        ((2, 2), (1001, 1000), (0, 0)),
        ((2, 2), (2, 2), (65_000, 500)),
        ((2, 2), (65_535,) * 2, (0, 0)),
    ],
)
def test_the_pixels_of_the_canvas_and_the_frame_are_counted_before_decoding(canvas, size, place, disposal, monkeypatch):
    data = gif(control(disposal << 2 | 1), frame([], size, place), canvas=canvas)
    monkeypatch.setattr(Image.core, "fill", lambda *_: pytest.fail("a picture was made"))

    for read in (decode, decoding_bytes):
        with pytest.raises(PictureError) as caught:
            read(data, 1_000_000)
        assert caught.value.problem is PictureProblem.PIXELS


def test_memory_is_counted_by_the_canvas():
    whole = gif(frame([0] * 4, (2, 2)), canvas=(2, 2))
    pictures = (whole, gif(FOUR, canvas=(300, 200)), gif(control(0b1), FOUR, canvas=(300, 200)))
    asked = [decoding_bytes(data) for data in pictures]

    assert asked[0] < 10_000_000
    assert asked[1] > asked[2] > asked[0]
    assert asked[1] - len(whole) >= (1 + 1 + 4) * 300 * 200


def test_nothing_but_the_palette_the_transparent_colour_and_the_frames_is_kept():
    loop = gif_blocks(0xFF, b"NETSCAPE2.0", 11)

    assert still_picture(gif(loop, control(0b1101, 2), gif_blocks(0xFE, b"red"), FOUR)) == gif(control(0b1, 2), FOUR)
    assert still_picture(gif(loop, control(0b1100, 2), FOUR)) == gif(FOUR)
