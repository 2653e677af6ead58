"""The separators of JSON are counted exactly, wherever its text is cut into pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import service.web.json_separators
from service.web.json_separators import has_more_separators

TEXTS = st.text(st.sampled_from('\\",:[]{}a\n\u00e9\U0001f34e'), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda values: st.lists(values, max_size=8) | st.dictionaries(TEXTS, values, max_size=8),
    max_leaves=60,
)


def separators(value: object) -> int:
    if isinstance(value, dict):
        return 1 + len(value) + max(0, len(value) - 1) + sum(map(separators, value.values()))
    if isinstance(value, list):
        return 1 + max(0, len(value) - 1) + sum(map(separators, value))
    return 0


@settings(deadline=None)
@given(value=VALUES, piece=st.integers(1, 9), is_ascii=st.booleans())
def test_separators_outside_of_strings_are_counted(value, piece, is_ascii):
    text = json.dumps(value, ensure_ascii=is_ascii).encode()
    count = separators(value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.web.json_separators, "_PIECE_BYTES", piece)

        assert not has_more_separators(text, count)
        assert count == 0 or has_more_separators(text, count - 1)


@pytest.mark.parametrize(
    "content", [b",", b"[],{}:", b'\\",', b"\\\\", b'\\\\\\",', b"[" * 70_000 + b'\\"', b"\xf0\x9f\x8d\x8e,"]
)
def test_a_long_string_has_no_separators(content):
    text = b'{"text":"' + content * (1_000_000 // len(content)) + b'","top_k":3}'

    assert not has_more_separators(text, 4)
    assert has_more_separators(text, 3)


@pytest.mark.parametrize(
    "unit", [b"[],", b"{},", b'"",', b"1,", b"[", b'{"a":', b'{"a":1,', b'"a":1,', b'"', b'""', b'\\",', b"[\\\\,"]
)
def test_many_values_are_found_in_text_that_is_not_json_too(unit):
    assert has_more_separators(unit * 100_000, 20_000)
