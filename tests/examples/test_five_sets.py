"""The table over five sets: its means, its paired intervals, and the items of one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from examples.small_data import five_sets


def comparison(**methods: list[float]) -> dict[str, Any]:
    """A comparison.json of two partitions and two seeds."""
    views = ("overall", "both", "image", "text")
    scores = {
        name: {"accuracy": values, "macro_f1": values, "ece_calibrated": values} for name, values in methods.items()
    }
    return {
        "partitions": [0, 1],
        "methods": {name: {"test": dict.fromkeys(views, each)} for name, each in scores.items()},
    }


def test_the_two_tasks_on_units_count_as_one_set():
    assert five_sets.shares(["category", "units-150", "units-200"]) == pytest.approx(
        {"category": 0.5, "units-150": 0.25, "units-200": 0.25}
    )
    assert sum(five_sets.shares(five_sets.TASKS).values()) == pytest.approx(1)


def test_the_lead_of_one_task_has_students_interval_over_its_partitions():
    ours, other = np.array([[0.6, 0.8], [0.7, 0.9]]), np.array([[0.5, 0.7], [0.7, 0.7]])

    lead, half, least = five_sets.paired_lead({"category": ours}, {"category": other})

    assert lead == pytest.approx(0.1)
    assert half == pytest.approx(0.0, abs=1e-9)  # both partitions lead by 0.1
    assert least == pytest.approx(0.0, abs=1e-9)
    _, half, least = five_sets.paired_lead({"category": np.add(ours, [[0.1], [0.0]])}, {"category": other})
    assert half == pytest.approx(12.706 * 0.05, rel=1e-3)
    assert least == pytest.approx((12.706 + 1.376) * 0.05, rel=1e-3)


def test_more_tasks_give_more_degrees_of_freedom():
    rng = np.random.default_rng(0)
    ours = {name: rng.normal(0.6, 0.05, (3, 2)) for name in five_sets.TASKS}
    other = {name: each - 0.05 + rng.normal(0, 0.01, (3, 1)) for name, each in ours.items()}

    lead, half, _ = five_sets.paired_lead(ours, other)

    assert lead == pytest.approx(0.05, abs=0.02)
    error = np.sqrt(
        sum(
            share**2 * (ours[name] - other[name]).mean(axis=1).var(ddof=1) / 3
            for name, share in five_sets.shares(ours).items()
        )
    )
    assert 2.0 < half / error < 4.303  # of more than two degrees of freedom


def test_a_row_has_every_task_their_mean_and_the_lead():
    found = {
        "category": comparison(head=[0.5] * 4, ours=[0.6, 0.6, 0.6, 0.6]),
        "keywords": comparison(head=[0.3] * 4, ours=[0.2] * 4, lora=[0.2] * 4),
    }

    lines = five_sets.table(found, "image").splitlines()

    assert [line.split(" | ")[0] for line in lines[2:]] == ["| head", "| ours"]  # not every task has lora
    assert lines[2] == "| head | 50.0 | 30.0 | 40.0 | +0.0 ± 0.0 | 0.0 |"
    assert lines[3].startswith("| ours | 60.0 | 20.0 | 40.0 |")
    assert len({line.count("|") for line in lines}) == 1
    assert "| category | 0.600 |" in five_sets.tables(found)


def test_methods_of_earlier_calls_are_kept(tmp_path: Path):
    for methods in ({"head": [0.5] * 4, "ours": [0.6] * 4}, {"ours": [0.7] * 4}):
        (tmp_path / "comparison.json").write_text(json.dumps(comparison(**methods)))
        five_sets.keep_all(tmp_path)

    kept = json.loads((tmp_path / "all.json").read_text())["methods"]
    assert [*kept] == ["head", "ours"]
    assert kept["ours"]["test"]["overall"]["accuracy"] == [0.7] * 4


def test_near_copies_of_a_drawing_are_left_out(tmp_path: Path):
    for number, split in enumerate(five_sets.SPLITS):
        rows = [{"path": f"animals/{name}_{number}.png", "label": split} for name in ("frog", f"cat_{split}")]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{split}.parquet")

    five_sets.write_drawings(tmp_path, tmp_path / "all.parquet")

    kept = pq.read_table(tmp_path / "all.parquet").to_pylist()
    assert [row["path"] for row in kept] == [
        "animals/frog_0.png",
        "animals/cat_train_0.png",
        "animals/cat_validation_1.png",
        "animals/cat_test_2.png",
    ]


@pytest.mark.parametrize("setting", five_sets.SETTINGS)
def test_a_task_is_written_as_mora_train_reads_it(tmp_path: Path, setting: str):
    from training.config import load_config

    path = five_sets.write_task("starships-385", tmp_path, setting, tmp_path / "out", five_sets.BACKBONE)

    config = load_config(path)
    assert config.missing.test.ratio == 0.7
    assert config.missing.train.ratio == five_sets.SETTINGS[setting]["train"]
    assert config.data.validation is None
