"""Scores whose parts do not fit are refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from model_store import ItemScores

VALID = {
    "metric": "accuracy",
    "items": "a" * 64,
    "majority_label": "apple",
    "majority": [1, 0],
    "patterns": {"both": [1, None], "image": [0, 1], "text": [None, None]},
}


def test_scores_are_read_as_they_were_written() -> None:
    scores = ItemScores.model_validate(VALID)

    assert ItemScores.model_validate_json(scores.model_dump_json()) == scores


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "recall"}, "metric"),
        ({"items": "row 1: a red bag"}, "items"),
        ({"majority": [1]}, "one score for each item"),
        ({"majority": [1, 2]}, "less than or equal to 1"),
        ({"majority": [1, None]}, "valid number"),
        ({"majority": [1, float("nan")]}, "less than or equal to 1"),
        ({"patterns": {"both": [1, 0]}}, "must be both, image and text"),
        ({"patterns": VALID["patterns"] | {"text": [1]}}, "one score for each item"),
        ({"texts": ["a red bag"]}, "texts"),
    ],
    ids=str,
)
def test_scores_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ItemScores.model_validate(VALID | change)
