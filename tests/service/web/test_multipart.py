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
