"""The depth of JSON."""

from __future__ import annotations

import pytest

from model_store.items.nesting import MAX_DEPTH, is_too_deep


def nested(depth, is_list):
    """A plain value within lists or objects, in all so many levels."""
    value = 1
    for _ in range(depth - 1):
        value = [0, value] if is_list else {"a": {}, "b": value}
    return value


@pytest.mark.parametrize("is_list", [True, False])
def test_a_value_is_too_deep_from_the_first_level_over_the_limit(is_list):
    assert not is_too_deep(nested(MAX_DEPTH, is_list))
    assert is_too_deep(nested(MAX_DEPTH + 1, is_list))
    assert is_too_deep(nested(100_000, is_list))
