"""Formats are recognised by content."""

from __future__ import annotations

import pytest

from model_store.items.formats import FORMATS, HEAD_BYTES, PictureFormat, format_of
from tests.support.odd_pictures import encoded


def ftyp(*brands: bytes) -> bytes:
    content = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return (len(content) + 4).to_bytes(4) + content + bytes(100)


@pytest.mark.parametrize("file_format", PictureFormat)
def test_a_format_is_recognised_by_the_first_bytes(file_format):
    assert format_of(encoded(file_format.name)[:HEAD_BYTES]) is file_format


@pytest.mark.parametrize(
    ("head", "is_avif"),
    [
        (ftyp(b"avif"), True),
        (ftyp(b"avis", b"msf1"), True),
        (ftyp(b"mif1", b"miaf", b"avif"), True),
        (ftyp(b"heic", b"mif1", b"heic"), False),
        (ftyp(b"isom", b"mp42"), False),
        (ftyp(b"isom") + b"avif", False),
    ],
)
def test_avif_is_told_from_other_files_of_its_container_by_its_brands(head, is_avif):
    assert (format_of(head) is PictureFormat.AVIF) == is_avif


@pytest.mark.parametrize(
    "head", [b"", b"\xff\xd8", b"GIF88a", b"BM", b"II*\0", b"RIFF\0\0\0\0WAVE", b"picture", b"\0\0"]
)
def test_other_content_has_no_format(head):
    assert format_of(head) is None


def test_the_names_for_people_and_for_browsers_follow_one_list():
    assert FORMATS == "JPEG, PNG, WebP, AVIF or GIF"
    assert [each.media_type for each in PictureFormat] == [
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/avif",
        "image/gif",
    ]
