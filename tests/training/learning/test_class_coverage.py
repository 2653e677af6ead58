"""Coverage by class: counted, and named in a warning only where it is low, not by chance, and of enough items."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from model_store import Calibration, Pattern, Problem
from model_store.label_sets import LabelSets, Quantiles
from training.config import CoverageConfig
from training.data.calibration_split import Divided
from training.data.examples import Example
from training.data.missing import Lacks
from training.data.splits import Split, TaskData
from training.learning.calibration import Answers
from training.learning.class_coverage import calibration_counts, class_scores, class_warnings
from training.learning.formed_sets import FormedSets

BY_PATTERN, BY_CLASS = CoverageConfig(by="pattern"), CoverageConfig(by="class")


def warnings_of(
    classes: dict[str, tuple[int, float]], calibration_items: int = 100, config: CoverageConfig = BY_PATTERN
) -> list[str]:
    """Of classes with these numbers of test items and coverages."""
    rows = {label: {"items": items, "covered": covered} for label, (items, covered) in classes.items()}
    counts = {pattern: Counter(dict.fromkeys(classes, calibration_items)) for pattern in Pattern}
    return list(class_warnings({"text": {"0.8": {}, "0.9": {"by_class": rows}}}, counts, config))


@pytest.mark.parametrize(
    ("items", "covered", "is_named"),
    [
        (100, 0.80, True),
        (400, 0.85, True),  # exactly 5 points
        (4000, 0.86, False),  # certain, but less than 5 points
        (100, 0.85, False),  # 5 points, but as low in 7 of 100 draws
        (5, 0.6, False),  # as low in 8 of 100
        (5, 0.4, True),
        (1, 0.0, False),
        (2, 0.0, True),
        (100, 1.0, False),
    ],
)
def test_a_class_is_named_if_it_is_short_by_five_points_and_not_by_chance(
    items: int, covered: float, is_named: bool
) -> None:
    warnings = warnings_of({"bag": (items, covered), "scarf": (50, 0.9)})

    assert len(warnings) == is_named
    for warning in warnings:
        assert f"bag ({covered:.1%} of {items} test items)" in warning
        assert "items with text only" in warning
        assert "coverage.by: class keeps the promise" in warning
        assert "scarf" not in warning


@pytest.mark.parametrize(("calibration_items", "is_named"), [(0, False), (29, False), (30, True), (31, True)])
def test_a_class_with_few_calibration_items_is_not_named(calibration_items: int, is_named: bool) -> None:
    assert len(warnings_of({"bag": (100, 0.5)}, calibration_items)) == is_named


def test_all_short_classes_of_a_pattern_are_in_one_warning() -> None:
    (warning,) = warnings_of({"bag": (100, 0.5), "hat": (60, 0.7), "shoe": (9, 0.9)})

    assert "bag (50.0% of 100 test items), hat (70.0% of 60 test items);" in warning


@pytest.mark.parametrize("config", [BY_CLASS, BY_PATTERN])
def test_the_way_out_is_not_what_is_done_already(config: CoverageConfig) -> None:
    (warning,) = warnings_of({"bag": (100, 0.5)}, config=config)

    assert ("coverage.by: class" in warning) is (config is BY_PATTERN)
    assert ("unlike the validation items" in warning) is (config is BY_CLASS)


@pytest.mark.parametrize("coverage", [{}, {"text": {"0.8": {"covered": 0.1}}}, {"text": {"0.9": {"covered": 0.1}}}])
def test_a_task_without_coverage_by_class_has_no_warnings(coverage: dict[str, Any]) -> None:
    assert list(class_warnings(coverage, {}, BY_PATTERN)) == []


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.1, {"bag": {"items": 2, "covered": 0.5}, "shoe": {"items": 1, "covered": 0.0}}),
        (0.65, {"bag": {"items": 2, "covered": 1.0}, "shoe": {"items": 1, "covered": 0.0}}),
        (0.99, {"bag": {"items": 2, "covered": 1.0}, "shoe": {"items": 1, "covered": 1.0}}),
    ],
)
def test_each_class_that_items_have_is_counted(threshold: float, expected: dict[str, dict[str, float]]) -> None:
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.55, 0.05], [0.5, 0.45, 0.05]])
    known = Answers(scores.log(), torch.tensor([0, 0, 2]), torch.arange(3))
    sets = LabelSets(by_pattern={"text": Quantiles(items=1000, values=(threshold,) * 401)})
    formed = FormedSets(sets, known, Pattern.TEXT, Calibration(), Problem.SINGLE_LABEL)

    assert class_scores(formed, ("bag", "hat", "shoe")) == expected


@pytest.mark.parametrize(
    ("lacks", "counts"),
    [
        (Lacks.NOTHING, {Pattern.BOTH: 3, Pattern.IMAGE: 3, Pattern.TEXT: 3}),
        (Lacks.TEXT, {Pattern.BOTH: 0, Pattern.IMAGE: 3, Pattern.TEXT: 0}),
        (Lacks.IMAGE, {Pattern.BOTH: 0, Pattern.IMAGE: 0, Pattern.TEXT: 3}),
    ],
)
def test_calibration_items_count_for_the_patterns_that_they_allow(lacks: Lacks, counts: dict[Pattern, int]) -> None:
    split = Split("calibration", "made", [Example(row, b"", "text", ("bag",)) for row in range(3)])
    data = TaskData(("bag",), split, split, split)

    found = calibration_counts(Divided(data, {}, split, np.full(3, lacks, dtype=np.int8)))

    assert {pattern: each["bag"] for pattern, each in found.items()} == counts
    assert calibration_counts(Divided(data, {})) == {}
