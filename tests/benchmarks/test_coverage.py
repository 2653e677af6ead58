"""The study of label sets: it finds a promise that is kept, and a calibration that does not keep it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import coverage as study
from model_store import Pattern, Problem
from model_store.label_sets import LabelSets, Quantiles

ITEMS, LABELS = 600, 6
SHARPNESS = {Pattern.BOTH: 4.0, Pattern.IMAGE: 0.8, Pattern.TEXT: 3.0}  # how much an answer knows


def subject(problem: Problem = Problem.SINGLE_LABEL, rule: str = "threshold") -> study.Subject:
    """Items whose true labels are drawn from the scores themselves, so that scores are calibrated."""
    dice = np.random.default_rng(0)
    pool = study.Pool({}, {}, {}, {})
    for pattern, sharpness in SHARPNESS.items():
        logits = sharpness * dice.normal(size=(ITEMS, LABELS))
        if problem is Problem.SINGLE_LABEL:
            scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            drawn = (scores.cumsum(axis=1) > dice.random((ITEMS, 1))).argmax(axis=1)
            pool.truth[pattern] = np.arange(LABELS) == drawn[:, np.newaxis]
        else:
            scores = 1 / (1 + np.exp(-logits))
            pool.truth[pattern] = dice.random(scores.shape) < scores
        pool.scores[pattern] = pool.plain[pattern] = scores
        pool.item[pattern] = np.arange(ITEMS)
    return study.Subject("fruit", problem, LabelSets(rule=rule, by_pattern={}), pool, ITEMS)


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("| ").split("|")]


def percent(cell: str) -> float:
    return float(cell.rstrip("%")) / 100


@pytest.mark.parametrize("rule", ["threshold", "adaptive"])
@pytest.mark.parametrize("problem", [Problem.SINGLE_LABEL, Problem.MULTI_LABEL])
@pytest.mark.slow
def test_sets_of_each_pattern_keep_the_promise(problem, rule):
    rule = "threshold" if problem is Problem.MULTI_LABEL else rule
    rows = [cells(row) for row in study.coverage_rows(subject(problem, rule))]

    assert len(rows) == len(Pattern) * len(study.COVERAGES)
    for _, _, promise, reached, _, inside, _ in rows:
        assert percent(reached) >= percent(promise) - 0.01
        assert int(inside.split()[0]) >= 17


def test_one_calibration_for_all_patterns_misses_the_promise_on_the_hardest():
    rows = [cells(row) for row in study.coverage_rows(subject())]
    pooled = {name: percent(row[-1]) for row in rows if row[2] == "90%" for name in [row[1]]}

    assert pooled["image only"] < 0.86 < 0.91 < pooled["image and text"]


def test_a_split_below_its_interval_is_found(monkeypatch):
    best_only = LabelSets(by_pattern=dict.fromkeys(Pattern, Quantiles(items=300, values=(-1.0,) * 499)))
    monkeypatch.setattr(study, "calibrated", lambda *_, pooled=False: best_only)

    rows = [cells(row) for row in study.coverage_rows(subject()) if "image only" in row]

    assert [row[5] for row in rows] == 3 * [f"0 of {study.SPLITS}"]


def test_sizes_and_reviews_are_listed_for_each_pattern():
    rows = [cells(row) for row in study.size_rows(subject())]

    sizes = {row[1]: float(row[2]) for row in rows}
    assert sizes["image only"] > sizes["text only"] > sizes["image and text"] >= 1
    assert {row[4] for row in rows} == {"1.00"}  # the same scores and rule
    reviews = {row[1]: percent(row[5]) for row in rows}
    assert reviews["image only"] > reviews["image and text"]


def test_coverage_falls_if_only_rare_labels_arrive():
    given = subject()
    for pattern, truth in given.pool.truth.items():
        rare = truth.argmax(axis=1) == 0
        given.pool.scores[pattern][rare, 0] *= 0.02  # a label that the model underrates, and that is rare
        keep = ~rare | (np.arange(ITEMS) % 4 == 0)
        for part in (given.pool.scores, given.pool.truth, given.pool.item):
            part[pattern] = part[pattern][keep]

    assert all(percent(cell) < 0.6 for cell in cells(study.drift_row(given))[1:])


def test_the_part_of_the_page_is_replaced(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{study.BEGIN}\noutdated\n{study.END}\nafter\n")
    monkeypatch.setattr(study, "subject_of", lambda folder: subject())

    study.main([tmp_path], page=page)

    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "outdated" not in text
    assert text.count("| fruit |") == 9 + 3 + 1
    assert "| fruit |" in capsys.readouterr().out


def test_the_cost_is_the_mean_over_seeds_of_what_the_test_scores_lose(tmp_path):
    def run(name: str, config: dict, accuracies: list[float]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        scores = {
            pattern: {"accuracy": each, "ece_calibrated": each / 10}
            for pattern, each in zip(Pattern, accuracies, strict=True)
        }
        (folder / "metrics.json").write_text(json.dumps({"test": scores}))
        (folder / "task.json").write_text(
            json.dumps({"task_config": {"task": "fruit", "problem": "single_label"} | config})
        )
        return folder

    divided = [run(f"d{n}", {}, [0.8 + n / 100, 0.5, 0.7]) for n in range(3)]
    whole = [run(f"w{n}", {}, [0.83, 0.5, 0.69 + n / 100]) for n in range(3)]

    rows = [cells(row) for row in study.cost_rows(divided, whole)]

    assert [row[:2] for row in rows] == [["fruit", "image and text"], ["fruit", "image only"], ["fruit", "text only"]]
    assert [row[2:] for row in rows] == [
        ["81.0% ± 1.0", "83.0% ± 0.0", "-2.0", "8.1% ± 0.1", "8.3% ± 0.0", "-0.2"],
        ["50.0% ± 0.0", "50.0% ± 0.0", "+0.0", "5.0% ± 0.0", "5.0% ± 0.0", "+0.0"],
        ["70.0% ± 0.0", "70.0% ± 1.0", "+0.0", "7.0% ± 0.0", "7.0% ± 0.1", "+0.0"],
    ]
