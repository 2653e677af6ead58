"""Tables on the terminal: missing scores, methods in words, the parts of an import.

Covers training.report.scores.
"""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from training.config import ImportedConfig, TaskConfig
from training.data.splits import load_data
from training.learning.cross_scenario import Grid
from training.learning.review_costs import Outcome, ReviewPlan
from training.model.import_plan import ImportPlan
from training.report.console import print_grid, print_import_plan, print_metrics, print_review_plan, print_shown

Make = Callable[..., TaskConfig]


def printed(write: Callable[[Console], None]) -> str:
    console = Console(file=StringIO(), width=160)
    write(console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("\u2502")[1:-1]] for line in text.splitlines() if "\u2502" in line]


def test_an_undefined_score_of_a_grid_is_named_so() -> None:
    grid = Grid("accuracy", ("text 50%",), ("as given", "image 90%"), ((0.5, None),))

    assert ["text 50%", "0.5000", "undefined"] in rows_of(printed(lambda console: print_grid(console, grid)))


def test_a_view_without_items_is_left_out_and_an_undefined_score_is_a_dash() -> None:
    test = {
        "overall": {"items": 60, "accuracy": 0.5, "auroc": None},
        "image": {"items": 0, "accuracy": None, "auroc": None},
        "text": {"items": 60, "accuracy": 0.25, "auroc": None},
    }

    text = printed(lambda console: print_metrics(console, {"test": test}))

    assert rows_of(text) == [["Accuracy", "50.0", "25.0"], ["AUROC", "-", "-"]]
    assert "image" not in text
    assert "60 items" in text
    assert "*" not in text


@pytest.mark.parametrize(("metric", "name"), [("accuracy", "Accuracy"), ("exact_match", "Exact match")])
def test_scores_have_intervals_and_the_headline_has_baselines(metric: str, name: str) -> None:
    metrics = {
        "test": {"overall": {"items": 16, metric: 0.75, "log_loss": 0.5}},
        "intervals": {"test": {"overall": {metric: [0.505, 0.898], "log_loss": [0.25, 1.0]}}},
        "baselines": {
            "metric": metric,
            "majority_labels": ["a", "b", "c", "d"],
            "test": {"overall": {"majority": 0.5, "chance": None}},
        },
    }

    text = printed(lambda console: print_metrics(console, metrics))

    assert rows_of(text) == [
        [f"{name} (headline)", "75.0 (50.5\u201389.8)"],
        ["majority", "50.0"],
        ["chance", "-"],
        ["Log loss", "0.500 (0.250\u20131.000)"],
    ]
    assert "16* items" in text
    assert "* fewer than 50 items" in text
    assert "every item is answered with a, b, c and 1 more" in text


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mora": {"without": "gram"}}, "mora (identity without gram), rank 4, scale 0.01, on q_proj, v_proj"),
        ({"method": "dora"}, "dora, rank 4, on q_proj, v_proj"),
        ({"method": "head"}, "head"),
    ],
)
def test_the_method_is_described(make_config: Make, fields: dict, says: str) -> None:
    text = printed(lambda console: print_shown(console, make_config(**fields), 3))

    assert any(line.split("method")[-1].strip() == says for line in text.splitlines() if "method" in line)
    assert "image layers" in text


@pytest.mark.parametrize("head", [None, {"head.weight": torch.zeros(3, 48), "head.bias": torch.zeros(3)}])
def test_an_import_names_the_shared_layers_and_the_origin_of_the_head(make_config: Make, head: dict | None) -> None:
    config = make_config()
    imported = ImportedConfig(kind="peft", sha256="", head="taken", first_image_layer=2, first_text_layer=0)
    plan = ImportPlan(config, imported, {"a": torch.zeros(1)}, 9, (4, 3), head, ())

    text = printed(lambda console: print_import_plan(console, plan, Path("my-lora"), load_data(config)))

    assert "my-lora (PEFT adapter)" in text
    assert "1 of its 9 tensors" in text
    assert "of 4 layers; layers below 2 are the backbone's" in text
    assert "of 3 layers; shared with no other" in text
    assert ("taken as it is" in text) is (head is not None)
    assert ("fitted on 24 items, the towers" in text) is (head is None)


def plan(coverage: float | None, costs: list[float], unsupported: dict[str, int] | None = None) -> ReviewPlan:
    names = ["no review", "review of all", *([] if coverage is None else [f"coverage {coverage:g}"])]
    outcomes = {name: Outcome(60, 0.25, 0.125, cost) for name, cost in zip(names, costs, strict=True)}
    empty = Outcome(0, float("nan"), float("nan"), float("nan"))
    test = {name: {"overall": row, "text": row._replace(items=20), "image": empty} for name, row in outcomes.items()}
    return ReviewPlan(coverage, outcomes, test, unsupported or {})


@pytest.mark.parametrize(
    ("coverage", "costs", "says"),
    [
        (0.93, [2.5, 1.0, 0.75], "ask for a coverage of 0.93; items whose set has exactly one label need no review"),
        (0.93, [0.5, 1.0, 0.75], "no coverage is expected to cost less than no review"),
        (0.93, [2.5, 0.75, 0.75], "no coverage is expected to cost less than review of all"),
        (None, [2.5, 1.0], "no coverage is expected to cost less than review of all"),
    ],
)
def test_the_coverage_to_ask_for_is_one_line_with_its_costs(
    coverage: float | None, costs: list[float], says: str
) -> None:
    text = printed(lambda console: print_review_plan(console, plan(coverage, costs)))

    assert says in text.splitlines()
    assert f"no review {costs[0]:g}, review of all {costs[1]:g}" in text
    rows = rows_of(text)
    assert ["no review", "overall", "60", f"{costs[0]:g}", "25.0", "12.5"] in rows
    assert ["", "text", "20*", f"{costs[0]:g}", "25.0", "12.5"] in rows
    assert "image" not in text  # no test item has it


@pytest.mark.parametrize("unsupported", [{}, {"image": 12}, {"image": 12, "text": 3000}])
def test_items_without_label_sets_are_named(unsupported: dict[str, int]) -> None:
    text = printed(lambda console: print_review_plan(console, plan(0.9, [2, 1, 0.5], unsupported)))

    assert text.count("no label sets") == len(unsupported)
    assert ("image: no label sets, so these 12 test items are reviewed at every coverage" in text) is bool(unsupported)
    assert ("these 3,000 test items" in text) is ("text" in unsupported)
