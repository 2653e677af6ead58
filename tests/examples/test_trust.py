"""`make trust`: finished fits are kept, failed ones are named. Covers trust, trust_tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from examples.small_data import trust, trust_tables
from examples.small_data.trust_tables import BEGIN, END, NoMarkersError, accuracies, by_chance, confidences, page_with


def result(name: str, seed: int, regression: float, fit: float, kept: str = "the linear probe") -> dict[str, Any]:
    error = {"items": 10, "before": 0.2, "after": 0.1 + 0.1 * seed, "by_chance": 0.08}
    nothing = {"items": 0, "before": None, "after": None, "by_chance": None}
    return {
        "set": name,
        "seed": seed,
        "rows": 1200,
        "labels": 3,
        "test_items": 100,
        "regression": regression,
        "probe": 0.75,
        "fit": fit,
        "only_regression": 10,
        "only_fit": 10 + round(100 * (fit - regression)),
        "result": kept,
        "confidence": {"both": error, "image": error, "text": nothing if seed else error},
    }


def test_accuracies_are_means_over_splits_and_the_last_row_over_sets() -> None:
    results = [result("a", 0, 0.5, 0.6), result("a", 3, 0.6, 0.8, "mora"), result("b", 0, 0.8, 0.8)]

    rows = accuracies(results)[2:]

    assert rows == [
        "| `a` | 1,200 | 3 | 55.0 | 75.0 | 70.0 | +15.0 ± 7.9 | +10.0 | 1 of 2 |",
        "| `b` | 1,200 | 3 | 80.0 | 75.0 | 80.0 | +0.0 ± 8.8 | +0.0 | 0 of 1 |",
        "| mean | | | 67.5 | 75.0 | 75.0 | +7.5 ± 5.9 | +5.0 | |",
    ]


@pytest.mark.parametrize(("fit", "regression", "items"), [(0, 0, 50), (5, 5, 100), (30, 10, 60), (1, 0, 4)], ids=str)
def test_the_variance_is_that_of_the_paired_differences_of_the_items(fit: int, regression: int, items: int) -> None:
    differences = np.repeat([1, -1, 0], [fit, regression, items - fit - regression])

    variance = trust_tables.variance({"only_fit": fit, "only_regression": regression, "test_items": items})

    assert variance == pytest.approx(differences.var() / items)


def test_errors_of_confidence_are_counted_by_pattern_where_test_has_items() -> None:
    rows = confidences([result("a", seed, 0.5, 0.5) for seed in (0, 1, 2)])[2:]

    assert rows == [
        "| both | 3 | 67% | 0.200 | 0.200 | 0.080 |",
        "| image | 3 | 67% | 0.200 | 0.200 | 0.080 |",
        "| text | 1 | 100% | 0.200 | 0.100 | 0.080 |",
    ]


@pytest.mark.parametrize(("items", "least", "most"), [(20, 0.1, 0.3), (200, 0.02, 0.1), (20_000, 0.0, 0.02)])
def test_the_error_by_chance_falls_with_the_number_of_items(items: int, least: float, most: float) -> None:
    logits = 2 * torch.randn(items, 4, generator=torch.Generator().manual_seed(items))

    error = by_chance(logits)

    assert error is not None
    assert least <= error <= most


def test_without_items_there_is_no_error_by_chance() -> None:
    assert by_chance(torch.zeros(0, 4)) is None


def test_the_tables_replace_those_between_the_markers() -> None:
    page = f"# Page\n\n{BEGIN}\nold\n{END}\n\nMore.\n"

    once = page_with(page, "new")

    assert once == f"# Page\n\n{BEGIN}\n\nnew\n\n{END}\n\nMore.\n"
    assert page_with(once, "new") == once


@pytest.mark.parametrize("page", ["# Page\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n"])
def test_a_page_without_both_markers_is_refused(page: str) -> None:
    with pytest.raises(NoMarkersError, match="no lines"):
        page_with(page, "new")


def test_the_method_page_has_the_markers() -> None:
    page = (trust.ROOT / "docs" / "method.md").read_text(encoding="utf-8")

    assert page_with(page, "new") != page


def test_a_finished_result_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(trust, "fit", lambda folder, name, seed, run, log: calls.append(f"{name} {seed}"))
    monkeypatch.setattr(trust, "scores", lambda folder, name, run: {"fit": 0.5})
    (tmp_path / "trust").mkdir()

    first, again = (trust.result_of(tmp_path, "a", 1) for _ in range(2))

    assert first == again == {"set": "a", "seed": 1, "fit": 0.5}
    assert calls == ["a 1"]
    assert json.loads(trust.result_path(tmp_path, "a", 1).read_text()) == first


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ("task: a\nproblem: none\n", "problem: must be"),
        ("task: a\nepochs: 3\n", "epochs: is not a field"),
        (None, "cannot read the configuration"),
    ],
)
@pytest.mark.slow
def test_a_fit_that_fails_is_named_with_its_reason_and_its_log(tmp_path: Path, task: str | None, problem: str) -> None:
    if task is not None:
        (tmp_path / "a.yaml").write_text(task)
    log = tmp_path / "a-1.log"

    with pytest.raises(trust.FitError, match=f"^a, split 1: error: .*{problem}.*see {log}"):
        trust.fit(tmp_path, "a", 1, tmp_path / "run", log)


def test_the_tables_name_command_seeds_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_tables, "version", lambda name: {"scikit-learn": "1.2.3"}[name])

    text = trust_tables.tables([result("a", seed, 0.5, 0.5) for seed in (0, 1, 2)])

    assert text.startswith("`make trust`, `data.seed` from 0 on. On ")
    assert "scikit-learn 1.2.3" in text.splitlines()[0]
