"""Metadata changes no pixel, whatever it holds; only the orientation is read."""

from __future__ import annotations

import numpy as np
import pytest

from model_store.items.formats import PictureFormat
from model_store.items.metadata import orientation_of, without_metadata
from model_store.items.pictures import PictureError, PictureProblem, decode
from tests.support.odd_pictures import (
    LONG,
    MAKER,
    ODD_EXIF,
    ORIENTATION,
    SHORT,
    chunk,
    encoded,
    jpeg_with,
    png_with,
    segment,
    tiff,
    with_exif,
    with_large_metadata,
    with_odd_exif,
)

PICTURES = with_large_metadata() | with_odd_exif()
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("name", PICTURES)
def test_odd_or_large_metadata_changes_no_pixel(name):
    plain = encoded(name.partition(" ")[0].upper())

    np.testing.assert_array_equal(np.asarray(decode(PICTURES[name])), np.asarray(decode(plain)))


@pytest.mark.parametrize("name", [name for name in PICTURES if name.startswith(("PNG", "JPEG", "GIF with"))])
def test_what_pillow_opens_is_as_short_as_without_metadata(name):
    file_format = PictureFormat(name.partition(" ")[0])

    kept, _ = without_metadata(PICTURES[name], file_format)

    assert kept == without_metadata(encoded(file_format.name), file_format)[0]


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        tiff((ORIENTATION, SHORT, 1, b"\x06\0")),
        tiff((ORIENTATION, SHORT, 1, b"\0\x06"), order=">"),
        tiff((ORIENTATION, LONG, 1, b"\x06\0\0\0"), (MAKER, LONG, 2, b"12345678")),
        tiff((ORIENTATION, LONG, 1, b"\0\0\0\x06"), order=">"),
    ],
)
def test_the_orientation_is_read_in_either_byte_order(file_format, exif):
    assert decode(with_exif(file_format, exif)).size == (30, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_read(orientation):
    assert orientation_of({"exif": b"Exif\0\0" + tiff((ORIENTATION, SHORT, 1, bytes([orientation, 0])))}) == orientation


@pytest.mark.parametrize(
    "data",
    [
        png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
        jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
        jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP), segment(0xE1, b"Exif\0\0" + tiff())),
        encoded("WEBP", xmp=XMP),
    ],
)
def test_the_orientation_of_xmp_is_used_if_exif_has_none(data):
    assert decode(data).size == (30, 40)


def test_the_orientation_of_exif_comes_before_that_of_xmp():
    exif = tiff((ORIENTATION, SHORT, 1, b"\x03\0"))

    assert orientation_of({"exif": exif, "xmp": XMP}) == 3
    assert orientation_of({"exif": ODD_EXIF["no EXIF at all"], "xmp": XMP}) == 6
    assert orientation_of({"xmp": XMP.replace(b"6", b"9")}) == 1


@pytest.mark.parametrize(
    "data",
    [
        png_with(chunk(b"tEXt", b"Comment\0red"))[:60],
        png_with(chunk(b"ODDS", b"a chunk that a decoder must know, with a wrong sum")[:-1] + b"!"),
        png_with(chunk(b"tRNS", b"")),
        png_with(b"\0\0\xff\xfftEXtComment\0red"),
        encoded("PNG").replace(b"IDAT", b"iDAT"),
        jpeg_with(segment(0xFE, b"red"))[:8],
        jpeg_with(segment(0xFE, b"red"))[:-100],
        jpeg_with(b"\xff\xe1\xff\xff"),
        jpeg_with(segment(0xFE, b"") * 100_000),
        png_with(chunk(b"tEXt", b"") * 100_000),
    ],
)
def test_a_damaged_file_is_still_refused(data):
    with pytest.raises(PictureError) as caught:
        decode(data)
    assert caught.value.problem is PictureProblem.UNDECODABLE


def test_a_decoded_picture_carries_no_metadata_into_files_made_of_it():
    for file_format in ("PNG", "JPEG", "WEBP", "AVIF", "GIF"):
        assert decode(encoded(file_format, icc_profile=b"profile", exif=tiff((MAKER, LONG, 1, b"1234")))).info == {}
