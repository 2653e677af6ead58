"""Pictures as base64 and data: URIs, in the spellings that clients write."""

from __future__ import annotations

import base64
import contextlib
import textwrap
import tracemalloc
from io import BytesIO
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model_store.items.picture_text import PictureTextError, picture_from_text
from tests.support.tiny import PICTURE


def encoded(file_format: str) -> bytes:
    file = BytesIO()
    Image.effect_noise((20, 21), 90).convert("RGB").save(file, file_format)
    return file.getvalue()


PLAIN = base64.b64encode(PICTURE).decode()
URL_SAFE = base64.urlsafe_b64encode(PICTURE).decode()
BARE = URL_SAFE.rstrip("=")
SPELLINGS = {
    "plain": PLAIN,
    "base64url": URL_SAFE,
    "base64url without padding": BARE,
    "without padding": PLAIN.rstrip("="),
    "lines of 76": "\n".join(textwrap.wrap(PLAIN, 76)),
    "lines of 64 with CRLF and indent": "\r\n    ".join(textwrap.wrap(PLAIN, 64)) + "\r\n",
    "spaces": f" {PLAIN[:77]} {PLAIN[77:201]}\t{PLAIN[201:]} ",
    "percent-encoded": quote(PLAIN, safe=""),
    "data": f"data:image/png;base64,{PLAIN}",
    "DATA": f"DATA:IMAGE/PNG;BASE64,{PLAIN}",
    "no media type": f"data:;base64,{PLAIN}",
    "octet-stream": f"data:application/octet-stream;base64,{PLAIN}",
    "image/jpg of a PNG": f"data:image/jpg;base64,{PLAIN}",
    "image/*": f"data:image/*;base64,{PLAIN}",
    "text/plain of a PNG": f"data:text/plain;base64,{PLAIN}",
    "a parameter": f"data:image/png;charset=utf-8;base64,{PLAIN}",
    "a name": f'data:image/png;name="a b.png";base64,{PLAIN}',
    "spaces around base64": f"\n data:image/png; base64 ,{PLAIN}\n",
    "base64url in a URI": f"data:image/png;base64,{BARE}",
    "lines in a URI": "data:image/png;base64,\n" + "\n".join(textwrap.wrap(PLAIN, 76)),
    "percent-encoded base64 in a URI": f"data:image/png;base64,{quote(PLAIN, safe='')}",
    "percent-encoded bytes": f"data:image/png,{quote_from_bytes(PICTURE)}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_picture_is_read_in_every_spelling(spelling):
    assert picture_from_text(SPELLINGS[spelling]) == PICTURE


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_every_format_identifies_itself(file_format):
    data = encoded(file_format)

    assert picture_from_text(f"data:;base64,{base64.urlsafe_b64encode(data).decode().rstrip('=')}") == data


@settings(deadline=None)
@given(rest=st.binary(max_size=40), columns=st.integers(1, 30))
def test_no_byte_is_lost_in_any_spelling(rest, columns):
    data = PICTURE[:8] + rest
    bare = base64.urlsafe_b64encode(data).decode().rstrip("=")

    assert picture_from_text("\n".join(textwrap.wrap(bare, columns))) == data
    assert picture_from_text(f"data:,{quote_from_bytes(data)}") == data


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("R0lGODlhAQABAIAAAAAAAP___w", b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff"),
        ("data:image/svg+xml,%3Csvg%20width='9'/%3E", b"<svg width='9'/>"),
        ("data:image/svg+xml;utf8,<svg width='9'/>", b"<svg width='9'/>"),
        ("data:image/png;base64,QUJD", b"ABC"),
        ("QUJD", b"ABC"),
    ],
)
def test_other_content_is_read_where_decoding_can_name_it(text, data):
    assert picture_from_text(text) == data


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("QUJ", r"Send base64 \(A-Z, a-z, 0-9, \+, /\) or a data: URI of a picture; base64url \(-, _\) is read too"),
        ("QUJD\n", "Send base64"),
        ("pictures/apple-1", "a path or a URL is not"),
        ("/photos/red.png", "a path or a URL is not"),
        ("http://127.0.0.1/a.png", "of a picture; base64url"),
        ("\u00e9", "Send base64"),
        ("data:text/plain;base64,QUJD", "Send base64"),
        ("data:text/plain,a%20red%20apple", "of a picture, not of text; "),
        ("data:text/plain;charset=utf-8;base64,YSByZWQgYXBwbGU=", "of a picture, not of text; "),
        ("data:text/html;base64,PGh0bWw+PC9odG1sPg==", "of a picture, not of text; "),
        ("<svg xmlns='http://www.w3.org/2000/svg'/>", "not of an SVG drawing"),
        ("data:image/png;base64", "Send base64"),
        (f"data:image/png,{PLAIN}", "not of text"),
        ("x" + SPELLINGS["data"], "Send base64"),
    ],
)
def test_what_is_no_picture_is_refused_without_repeating_it(text, problem):
    with pytest.raises(PictureTextError, match=problem) as refused:
        picture_from_text(text)

    assert text not in str(refused.value)


@pytest.mark.parametrize("prefix", ["", "data:image/jpeg;base64,", "data:;base64,"])
def test_a_plus_that_a_form_turned_into_a_space_is_not_lost_in_silence(prefix):
    data = PICTURE[:9] + b"\xfb\xef\xbeabc" * 9
    text = base64.b64encode(data).decode()
    assert text.count("+") == 36

    with pytest.raises(PictureTextError, match=r"spaces in place of \+"):
        picture_from_text(prefix + text.replace("+", " ").rstrip("="))


@pytest.mark.parametrize(
    "text",
    ["%25QUJD", "QUJD%", "QUJD%4", "%zzQUJD", "QUJD%\n", "%%51UJD", "data:image/png;base64,QUJD%", "data:,\ud800"],
)
def test_a_percent_sign_without_two_digits_is_not_left_out(text):
    with pytest.raises(PictureTextError, match="Send base64"):
        picture_from_text(text)


@pytest.mark.parametrize("prefix", ["", "data:;base64,", "data:image/png,"])
@pytest.mark.parametrize("unit", ["%", "%41", "%e2%80%80", "A ", "AA\n", "A\u3000", "%%%41", "=", "-_", "!", "%\n"])
def test_no_spelling_takes_many_times_its_memory(unit, prefix):
    text = prefix + unit * (1_000_000 // len(unit))

    tracemalloc.start()
    try:
        with contextlib.suppress(PictureTextError):
            picture_from_text(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 10 * len(text)
