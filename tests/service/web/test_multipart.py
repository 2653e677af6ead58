"""Parsing returns the parts of a form unchanged and refuses a damaged form."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import Code, ServiceError
from service.web.multipart import parse_multipart

TYPE = "multipart/form-data; boundary=boundary"
PARTS = st.dictionaries(
    st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=8),
    st.binary(max_size=50).filter(lambda content: b"--boundary" not in content),
    max_size=4,
)


def part(*headers: str) -> bytes:
    """A form with one part that has these headers beside its name."""
    lines = "".join(f"{line}\r\n" for line in ('Content-Disposition: form-data; name="text"', *headers))
    return b"--boundary\r\n" + lines.encode() + b"\r\ncaf=C3=A9\r\n--boundary--\r\n"


@pytest.mark.parametrize(
    "header",
    [
        "Content-Type: text/plain",
        "Content-Type: text/plain; charset=UTF-8",
        'content-type: text/plain; format=flowed; charset="us-ascii"',
        "Content-Type: text/plain; charset=ISO-8859-1",
        "Content-Type: image/png",
        "Content-Transfer-Encoding: 8bit",
        "Content-Transfer-Encoding: Binary ",
        "Content-Language: fr",
    ],
)
def test_a_part_in_utf8_that_is_not_encoded_is_read(header):
    assert parse_multipart(part(header), TYPE, 1) == {"text": b"caf=C3=A9"}


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        (["Content-Type: text/plain; charset=utf-16le"], "another charset; send it as UTF-8"),
        (['CONTENT-TYPE: text/plain; Charset="UTF-7"'], "another charset"),
        (["Content-Type: text/plain; charset="], "another charset"),
        (["Content-Transfer-Encoding: quoted-printable"], "has a Content-Transfer-Encoding; send it as it is"),
        (["content-transfer-encoding:BASE64"], "has a Content-Transfer-Encoding"),
        (["Content-Type: text/plain", "content-type: text/plain; charset=utf-16"], "a header more than once"),
        (['Content-Disposition: form-data; name="task"'], "a header more than once"),
    ],
)
def test_a_part_that_is_to_be_decoded_is_refused_instead_of_read_as_it_is(headers, problem):
    with pytest.raises(ServiceError, match=problem) as caught:
        parse_multipart(part(*headers), TYPE, 1)

    assert caught.value.code is Code.BAD_MULTIPART


def test_a_text_in_latin_1_is_refused():
    body = part("Content-Type: text/plain; charset=ISO-8859-1").replace(
        b"caf=C3=A9", "caf\u00c3\u00a9".encode("latin-1")
    )

    with pytest.raises(ServiceError, match="another charset"):
        parse_multipart(body, TYPE, 1)


def form(parts: list[tuple[str, bytes]]) -> bytes:
    head = '--boundary\r\nContent-Disposition: form-data; name="{}"\r\n\r\n'
    return b"".join(head.format(name).encode() + content + b"\r\n" for name, content in parts) + b"--boundary--\r\n"


@settings(deadline=None)
@given(parts=PARTS)
def test_every_part_is_read_as_it_was_sent(parts):
    assert parse_multipart(form([*parts.items()]), TYPE, 4) == parts


def test_every_prefix_of_a_form_is_refused():
    body = form([("text", b"red"), ("image", b"\x00\xff")]).removesuffix(b"--\r\n")
    for length in range(len(body)):
        with pytest.raises(ServiceError) as caught:
            parse_multipart(body[:length], TYPE, 4)
        assert caught.value.code is Code.BAD_MULTIPART


@pytest.mark.parametrize(
    ("parts", "content_type", "problem"),
    [
        ([("a", b""), ("a", b"")], TYPE, "same name"),
        ([("", b"")], TYPE, "has no name"),
        ([("a", b""), ("b", b""), ("c", b"")], TYPE, "may have 2 parts"),
        ([("a", b"")], "multipart/form-data", "names no boundary|does not follow"),
        ([("a", b"")], TYPE.ljust(4097), "too long"),
    ],
)
def test_a_form_that_could_be_read_in_two_ways_is_refused(parts, content_type, problem):
    with pytest.raises(ServiceError, match=problem):
        parse_multipart(form(parts), content_type, 2)
