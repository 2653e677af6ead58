"""The boxes of AVIF files."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from model_store.items.avif import coded_pixels, still_picture
from model_store.items.pictures import PictureError, PictureProblem, decode, decoding_bytes
from tests.support.odd_pictures import encoded, saying

RED, CLEAR = Image.new("RGB", (64, 48), "red"), Image.new("RGBA", (64, 48), (9, 9, 9, 99))
FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (64, 48), "blue")]}
PLAIN, ANIMATED = encoded("AVIF", RED), encoded("AVIF", RED, **FRAMES)
STREAM = PLAIN[PLAIN.index(b"mdat") + 4 :]  # of its one coded picture
DAMAGE = (ValueError, LookupError, struct.error)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def meta(locations: bytes, kinds: tuple[bytes, ...] = (b"av01",), more: bytes = b"") -> bytes:
    """A file with boxes alone: the types of its items, which are counted from 0, and where they are."""
    entries = [box(b"infe", b"\2\0\0\0" + struct.pack(">HH", number, 0) + kind) for number, kind in enumerate(kinds)]
    items = box(b"iinf", bytes(4) + struct.pack(">H", len(kinds)) + b"".join(entries))
    return PLAIN[:32] + box(b"meta", bytes(4) + items + box(b"iloc", locations) + more)


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (PLAIN, [64 * 48]),
        (encoded("AVIF", RED.convert("L"), subsampling="4:0:0"), [64 * 48]),
        (encoded("AVIF", CLEAR), [64 * 48] * 2),
        (ANIMATED, [64 * 48]),
        (saying(PLAIN, 1, 1), [64 * 48]),
    ],
)
def test_the_pixels_of_colour_and_alpha_are_counted_in_their_streams(data, pixels):
    assert coded_pixels(data) == pixels


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("lengths", [[len(STREAM)], [0], [3, len(STREAM) - 3]])
def test_an_item_may_lie_in_several_parts_beside_the_boxes(version, lengths):
    number = ">I" if version == 2 else ">H"
    locations = bytes([version, 0, 0, 0, 0x44, 0x40]) + struct.pack(number, 1) + struct.pack(number, 0)
    locations += struct.pack(">HHIH", 1, 0, 0, len(lengths))
    locations += b"".join(struct.pack(">II", sum(lengths[:index]), length) for index, length in enumerate(lengths))

    assert coded_pixels(meta(locations, more=box(b"idat", STREAM))) == [64 * 48]


def test_a_box_may_have_a_long_size_or_end_with_the_file():
    size = struct.unpack_from(">I", PLAIN, 32)[0]
    long = PLAIN[:32] + struct.pack(">I4sQ", 1, b"meta", size + 8) + PLAIN[40:]
    place = long.index(b"mdat") - 4
    shifted = long[:place] + bytes(4) + long[place + 4 :]
    offset = shifted.index(b"iloc") + 4 + 14
    (start,) = struct.unpack_from(">I", shifted, offset)
    shifted = shifted[:offset] + struct.pack(">I", start + 8) + shifted[offset + 4 :]

    assert coded_pixels(shifted) == [64 * 48]
    assert decode(shifted).size == (64, 48)


@pytest.mark.parametrize(
    "data",
    [
        PLAIN[:32],
        PLAIN[:200],
        PLAIN[: PLAIN.index(b"mdat") - 4],
        PLAIN.replace(b"av01", b"hvc1"),
        PLAIN.replace(b"iloc", b"free"),
        PLAIN.replace(b"iinf", b"free"),
        PLAIN[:32] + b"\0\0\0\7" + PLAIN[36:],
        PLAIN[:32] + box(b"free", b"") * 20_000 + PLAIN[32:],
        meta(b"\0\0\0\0\x44\0" + struct.pack(">HHHHII", 1, 0, 0, 9, 0, 0)),
        meta(b"\0\0\0\0\0\0" + struct.pack(">HHHH", 1, 0, 0, 65_535)),
        meta(b"\2\0\0\0\0\0" + b"\xff" * 4),
        meta(b"\1\0\0\0\x44\0" + struct.pack(">HHHHHII", 1, 0, 2, 0, 1, 0, 9)),
        meta(b"\0\0\0\0\x44\0" + struct.pack(">HHHH", 1, 0, 0, 900) + struct.pack(">II", 0, 100) * 900),
    ],
)
def test_damaged_boxes_raise_an_error(data):
    with pytest.raises(DAMAGE):
        coded_pixels(data)
    with pytest.raises(PictureError) as caught:
        decode(data)
    assert caught.value.problem is PictureProblem.UNDECODABLE


@pytest.mark.parametrize("end", range(0, len(PLAIN), 7))
def test_every_cut_file_is_refused(end):
    with pytest.raises(PictureError):
        decode(PLAIN[:end])


def test_an_animation_is_read_as_its_still_picture():
    assert ANIMATED[8:12] == b"avis"
    assert still_picture(ANIMATED)[8:12] == b"avif"
    np.testing.assert_array_equal(np.asarray(decode(ANIMATED)), np.asarray(decode(PLAIN)))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (32, 24), (48, 64)])
def test_a_picture_that_is_larger_than_its_header_says_is_refused_before_decoding(width, height):
    with pytest.raises(PictureError) as caught:
        decoding_bytes(saying(PLAIN, width, height), 64 * 48 - 1)

    assert caught.value.problem is PictureProblem.PIXELS


@pytest.mark.parametrize("picture", [RED, CLEAR])
def test_memory_is_asked_for_by_what_the_decoder_makes(picture):
    data = encoded("AVIF", picture)
    asked = [decoding_bytes(data), decoding_bytes(saying(data, 8, 6))]

    coded = len(coded_pixels(data)) * 64 * 48
    assert min(asked) > 9 * coded
    assert asked[0] > 9 * coded + 11 * 64 * 48
