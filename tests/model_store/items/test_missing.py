"""Which cells hold nothing."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.items.missing import is_missing

SPACES = [chr(code) for code in range(0x3001) if chr(code).isspace()]


@pytest.mark.parametrize(
    "cell", [None, "", b"", " \t\r\n", "\u00a0\u2003\u3000\u2028", float("nan"), Decimal("NaN"), np.datetime64("NaT")]
)
def test_null_nan_empty_and_white_space_are_missing(cell):
    assert is_missing(cell)


@pytest.mark.parametrize("cell", [0, 0.0, False, b" ", "NA", "nan", "null", "\u200b", [], {}, [None]])
def test_a_value_that_looks_like_nothing_is_a_value(cell):
    assert not is_missing(cell)


@given(st.text(st.sampled_from(SPACES)), st.characters(exclude_characters=SPACES))
def test_one_letter_amid_white_space_is_a_value(spaces, letter):
    assert is_missing(spaces)
    assert not is_missing(spaces + letter + spaces)
