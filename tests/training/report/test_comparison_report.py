"""The table of a comparison: means over seeds, paired distances, missing scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.report.comparison_report import markdown, paired, write_comparison


def test_the_interval_is_that_of_paired_differences() -> None:
    first, second = [0.70, 0.72, 0.75], [0.69, 0.70, 0.72]

    mean, half = paired(first, second)

    assert mean == pytest.approx(0.02)
    assert half == pytest.approx(4.303 * 0.01 / 3**0.5)
    assert np.isnan(paired([0.7], [0.6])[1])


def test_the_interval_over_partitions_counts_each_as_the_mean_of_its_seeds() -> None:
    first, second = [0.70, 0.72, 0.75, 0.71], [0.69, 0.71, 0.70, 0.70]  # differences 1, 1, 5 and 1 points

    mean, half = paired(first, second, partitions=2)

    assert mean == pytest.approx(0.02)
    assert half == pytest.approx(12.706 * np.std([0.01, 0.03], ddof=1) / 2**0.5)
    assert np.isnan(paired(first, second, partitions=1)[1])


def result(rate: float, scores: list[float | None], searched: dict[str, float | None]) -> dict[str, Any]:
    views = {view: {"accuracy": scores} for view in ("overall", "both", "image", "text")}
    return {
        "learning_rate": rate,
        "searched": searched,
        "trainable_parameters": 1234,
        "seconds": [1.0, 2.0],
        "validation": scores,
        "test": views,
    }


def test_a_row_has_mean_and_deviation_and_the_lead_of_ours() -> None:
    searched = {"0.001": 0.4, "0.00316": 0.5, "0.01": 0.6}
    methods = {"head": result(0.01, [0.5, 0.7], searched), "ours": result(0.00316, [0.6, 0.8], searched)}

    lines = markdown({"metric": "accuracy", "seeds": [0, 1], "methods": methods}, ["`command`"]).splitlines()

    cells = {
        line.split(" | ")[0].lstrip("| "): line.rstrip(" |").split(" | ") for line in lines if line.startswith("|")
    }
    assert lines[0] == "`command`"
    assert cells["head"][1:5] == ["0.01 (edge)", "1,234", "2", "60.00 \u00b1 14.14"]
    assert cells["head"][-1] == "+10.00 \u00b1 0.00"
    assert cells["ours"][1] == "0.00316"


def test_a_method_without_scores_keeps_its_row() -> None:
    methods = {"full": result(0.01, [None, None], {}), "ours": result(0.01, [0.6, 0.8], {})}

    table = markdown({"metric": "accuracy", "seeds": [0, 1], "methods": methods}, [])

    row = next(line for line in table.splitlines() if line.startswith("| full"))
    assert row == "| full | 0.01 | 1,234 | 2 | - | - | - | - | - | - |"


@pytest.mark.parametrize(
    ("name", "strength", "searched", "cells"),
    [
        ("majority", None, {}, ["majority†", "-", "-"]),
        ("tfidf", 10.0, {"3.16": 0.4, "10": 0.6, "31.6": 0.5}, ["tfidf†", "C 10", "-"]),
        ("hog", 94.9, {"9.49": 0.4, "30": 0.5, "94.9": 0.6}, ["hog†", "C 94.9 (edge)", "-"]),
    ],
)
def test_a_yardstick_is_marked_and_compared_with_ours(
    tmp_path: Path, name: str, strength: float | None, searched: dict[str, float | None], cells: list[str]
) -> None:
    of_yardstick = result(0.0, [0.5, 0.7], searched)
    of_yardstick |= {"learning_rate": None, "strength": strength, "trainable_parameters": None}
    methods = {name: of_yardstick, "ours": result(0.00316, [0.6, 0.8], {})}

    write_comparison(tmp_path, {"metric": "accuracy", "seeds": [0, 1], "methods": methods}, ["compare"])

    lines = (tmp_path / "comparison.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith(f"| {name}")).strip("| ").split(" | ")
    assert [*row[:3], row[-1]] == [*cells, "+10.00 \u00b1 0.00"]
    assert any(line.startswith("† A yardstick needs no backbone") for line in lines)
    assert f"{name} (yardstick)" in (tmp_path / "comparison.svg").read_text()


def test_a_comparison_of_an_earlier_version_is_shown_as_before() -> None:
    methods = {"head": result(0.01, [0.5, 0.7], {}), "ours": result(0.01, [0.6, 0.8], {})}

    assert "yardstick" not in markdown({"metric": "accuracy", "seeds": [0, 1], "methods": methods}, [])
