"""Figures: well-formed SVG, equal bytes for equal data, and labels of any characters."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from training.learning.calibration import Bins
from training.learning.cross_scenario import Grid
from training.report.plots import (
    INK,
    PAPER,
    confusion_matrix,
    heat_map,
    learning_curves,
    method_plot,
    pattern_lines,
    reliability_diagram,
    robustness_curve,
)

NO_BINS = Bins(np.zeros(15), np.zeros(15), np.zeros(15, dtype=np.int64))
BINS = Bins(np.array([0.1, 0.5, 0.9]), np.array([0.0, 0.25, 0.75]), np.array([0, 4, 8]))
HISTORY = [
    {"epoch": 1.0, "loss": 0.9},
    {"epoch": 1.0, "eval_loss": 1.0, "eval_accuracy": 0.5},
    {"epoch": 2.0, "loss": 0.6},
    {"epoch": 2.0, "eval_loss": 0.8, "eval_accuracy": 0.8125},
    {"epoch": 3.0, "eval_loss": 0.9, "eval_accuracy": 0.75},
    {"epoch": 3.0, "train_loss": 0.7, "seconds": 3.0},
]
FIGURES: dict[str, Callable[[], str]] = {
    "heat map": lambda: heat_map(Grid("macro_f1", ("text 50%",), ("as given", "image 90%"), ((0.5, 0.25),))),
    "methods": lambda: method_plot({"mora": {"overall": [0.5, 0.75], "image": [None, 0.5]}, "lora": {}}, "auroc"),
    "curves": lambda: learning_curves(HISTORY, "accuracy"),
    "reliability": lambda: reliability_diagram(BINS, BINS),
    "robustness": lambda: robustness_curve({"text": [(0, 0.9), (1, 0.5)], "both": [(0, 0.9)]}, "accuracy"),
    "confusion": lambda: confusion_matrix(np.array([[5, 1], [0, 9]]), ["apple", "pear"]),
    "patterns": lambda: pattern_lines({"both": [(50, 60), (90, 91)], "text": [(50, 55)]}, "promised", "reached", True),
    "no patterns": lambda: pattern_lines({"both": []}, "promised", "reached", True),
    "no grid": lambda: heat_map(Grid("macro_f1", ("as given",), ("as given",), ((0.0,),))),
    "no methods": lambda: method_plot({}, "auroc"),
    "no curves": lambda: learning_curves([], "accuracy"),
    "no bins": lambda: reliability_diagram(NO_BINS, NO_BINS),
    "no robustness": lambda: robustness_curve({"text": []}, "accuracy"),
    "no answers": lambda: confusion_matrix(np.zeros((2, 2), dtype=np.int64), ["apple", "pear"]),
}


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - our own


def texts(svg: str) -> list[str]:
    """The texts of a figure."""
    return ["".join(element.itertext()).strip() for element in parsed(svg).iter() if "text" in element.tag]


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
@pytest.mark.slow
def test_a_figure_has_the_same_bytes_each_time_and_loads_nothing(draw: Callable[[], str]) -> None:
    svg = draw()

    assert draw() == svg
    root = parsed(svg)
    assert root.get("role") == "img"
    assert root[0].tag.endswith("title")
    assert root[0].text
    assert re.findall(r"https?://[^\"]+", re.sub(r'xmlns(:xlink)?="[^"]+"', "", svg)) == []
    assert {link.split(",")[0] for link in re.findall(r'href="([^#"][^"]*)"', svg)} <= {"data:image/png;base64"}
    assert INK in svg
    assert PAPER in svg


def test_a_figure_neither_reads_nor_changes_the_settings_of_its_process() -> None:
    draw = FIGURES["curves"]
    expected = draw()

    with mpl.rc_context({"font.size": 20, "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        assert draw() == expected
        assert dict(mpl.rcParams) == before


def test_labels_are_written_as_they_are() -> None:
    labels = [
        "<script>alert(1)</script>",
        "$x_1$ & co",
        "\u6620\u753b",
        "a label that is longer than any figure allows",
    ]

    written = texts(confusion_matrix(np.eye(4, dtype=np.int64), labels))

    assert written.count("<script>alert(1)</scrip\u2026") == 2  # a row and a column
    assert written.count("$x_1$ & co") == written.count("\u6620\u753b") == 2
    assert written.count("a label that is longer \u2026") == 2


@pytest.mark.parametrize("label", ["a\nb", "a\0b", "a\x0bb", "a\ud800b", "a\u202eb"], ids=ascii)
def test_a_character_that_cannot_be_printed_becomes_a_space(label: str) -> None:
    assert texts(confusion_matrix(np.eye(2, dtype=np.int64), [label, "pear"])).count("a b") == 2


def test_the_best_epoch_is_named() -> None:
    assert "best: 81.25 % after epoch 2" in texts(learning_curves(HISTORY, "accuracy"))


def test_entries_without_a_number_are_ignored() -> None:
    broken = [{"epoch": 4.0, "loss": float("nan")}, {"epoch": 4.0, "eval_accuracy": float("nan")}]

    assert learning_curves([*HISTORY, *broken], "accuracy") == learning_curves(HISTORY, "accuracy")


def test_an_empty_figure_says_that_nothing_was_recorded() -> None:
    assert texts(learning_curves([], "accuracy")).count("nothing recorded") == 2
    assert "nothing recorded" in texts(robustness_curve({"text": []}, "accuracy"))


def test_cells_show_scores_in_percent() -> None:
    grid = Grid("macro_f1", ("text 50%",), ("as given", "image 90%"), ((0.6123, 0.25),))

    written = texts(heat_map(grid))

    assert {"61.2", "25.0", "macro_f1 (%)", "text 50%", "image 90%"} <= set(written)


@pytest.mark.parametrize("scores", [(0.6123, None), (None, None)])
def test_an_undefined_score_of_a_grid_is_named_so(scores: tuple[float | None, ...]) -> None:
    written = texts(heat_map(Grid("macro_f1", ("text 50%",), ("as given", "image 90%"), (scores,))))

    assert written.count("undefined") == scores.count(None)


@pytest.mark.parametrize(("classes", "has_counts"), [(2, True), (30, True), (31, False), (101, False)])
def test_counts_are_written_for_up_to_thirty_classes(classes: int, has_counts: bool) -> None:
    counts = np.full((classes, classes), 0)
    np.fill_diagonal(counts, 4321)

    written = texts(confusion_matrix(counts, [f"label {number}" for number in range(classes)]))

    assert written.count("4321") == (classes if has_counts else 0)
    assert "label 0" in written
    assert len([text for text in written if text.startswith("label ")]) <= 2 * 60


def test_a_method_without_scores_keeps_its_row() -> None:
    written = texts(method_plot({"mora": {"overall": [0.5, None]}, "lora": {"overall": [None]}}, "auroc"))

    assert {"mora", "lora", "overall", "both", "image", "text", "auroc (%)"} <= set(written)


def test_reliability_names_both_errors() -> None:
    written = texts(reliability_diagram(BINS, NO_BINS))

    assert "before: mean gap 18.3 %" in written  # (4 * 0.25 + 8 * 0.15) / 12
    assert not any(text.startswith("after") for text in written)


@pytest.mark.parametrize("patterns", [("both", "image", "text"), ("text",), ("image", "both")])
def test_a_line_is_drawn_for_each_pattern(patterns: tuple[str, ...]) -> None:
    svg = pattern_lines({name: [(50.0, 60.0), (90.0, 95.0)] for name in patterns}, "promised (%)", "reached (%)")

    assert {*patterns, "promised (%)", "reached (%)"} <= set(texts(svg))
    assert ("both" in texts(svg)) is ("both" in patterns)
