"""Names in messages are few."""

from __future__ import annotations

import pytest

from training.errors import first_few


@pytest.mark.parametrize(
    ("names", "text"),
    [([], "nothing"), (["a", "b", "c"], "a, b, c"), (["a", "b", "c", "d", "e"], "a, b, c and 2 more")],
)
def test_the_first_few_of_many_names_are_listed(names: list[str], text: str) -> None:
    assert first_few(names) == text
