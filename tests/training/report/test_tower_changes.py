"""Means over the weights of a tower, on two weights with known spectra."""

from __future__ import annotations

import pytest

from training.report.tower_changes import tower_changes


def weight(tower: str, change: float, before: list[float], after: list[float], difference: list[float]) -> dict:
    ranks = {"before": 2 * change, "after": 3 * change, "change": 4 * change}
    spectra = {"before": before, "after": after, "change": difference}
    return {
        "tower": tower,
        "layer": 0,
        "module": "q_proj",
        "relative_change": change,
        "effective_rank": ranks,
        **spectra,
    }


def test_each_tower_has_the_means_of_its_own_weights_over_the_largest_pretrained_value() -> None:
    rows = [
        weight("text", 0.1, [2.0, 1.0], [4.0, 1.0], [2.0, 0.0]),
        weight("image", 0.5, [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]),
        weight("text", 0.3, [10.0, 5.0, 1.0], [10.0, 10.0, 1.0], [0.0, 0.0, 0.0]),  # a wider projection
    ]

    changes = tower_changes(rows)

    assert {tower: change.weights for tower, change in changes.items()} == {"text": 2, "image": 1}
    text = changes["text"]
    assert text.relative_change == pytest.approx(0.2)
    assert [*text.effective_rank.values()] == pytest.approx([0.4, 0.6, 0.8])
    assert [*text.spectra] == [*text.effective_rank] == ["pretrained", "adapted", "their difference"]
    assert [*text.spectra.values()] == [pytest.approx(each) for each in ([1.0, 0.5], [1.5, 0.75], [0.5, 0.0])]


def test_without_changed_weights_there_is_no_tower() -> None:
    assert tower_changes([]) == {}
