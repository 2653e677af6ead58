"""Files are named by their content."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from model_store.items.contents import TEXT, describe_content


def encoded(file_format: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (9, 9)).save(file, file_format)
    return file.getvalue()


@pytest.mark.parametrize(
    ("file_format", "kind"),
    [
        ("BMP", "a BMP picture"),
        ("TIFF", "a TIFF picture"),
        ("ICO", "an icon (ICO)"),
        ("JPEG2000", "a JPEG 2000 picture"),
        ("PDF", "a PDF"),
        ("EPS", "a PostScript file"),
    ],
)
def test_a_file_that_pillow_writes_is_named(file_format, kind):
    assert describe_content(encoded(file_format)) == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made by hand -->\n<SVG\n width="9">', "an SVG drawing"),
        (b'<svg:svg xmlns:svg="http://www.w3.org/2000/svg">', "an SVG drawing"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture"),
        (b"\0\0\0\x24ftypmif1\0\0\0\0heic", "a HEIC picture"),
        (b"PK\x03\x04\x14\0\0\0", "a ZIP archive"),
        ("a red apple, gr\u00fcn\r\n".encode(), TEXT),
        (("a" * 4095 + "\u00fc").encode(), TEXT),  # cut within a character
        (b"<!DOCTYPE html><title>404 Not Found</title>", TEXT),
        (b"BMW in a red paint", TEXT),
        (b"", None),
        (b"GIF", None),
        (bytes(64), None),
        (b"\xff\xfe\xfd" * 9, None),
        (b"a red apple\0\0\0", None),
        ("a \ufffd in the middle".encode("cp1252", "replace") + b"\xfc and more", None),
    ],
)
def test_a_kind_is_named_and_an_unknown_one_is_not(data, kind):
    assert describe_content(data) == kind
