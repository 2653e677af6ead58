"""The cross-scenario grid: each run is a row, tested under every kind of missingness."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from training.cli import app
from training.config import TaskConfig
from training.data.splits import load_data
from training.errors import RunError
from training.learning.cross_scenario import cross_scenario
from training.learning.run_folder import read_json
from training.learning.runs import TrainedTask, build, load_trained
from training.model.classifier import MissingModalityClassifier
from training.pipeline.fit import fit

Make = Callable[..., TaskConfig]


@pytest.fixture(autouse=True)
def _no_drawing() -> None:
    """The grid is drawn, and looked at."""


def trained_on(make_config: Make, folder: Path, kind: str, **fields) -> Path:
    missing = {"train": {"type": kind, "ratio": 0.5}, "test": {"ratio": 0.7, "seed": 3}}
    config = make_config(missing=missing, train={"epochs": 1, "batch_size": 8}, **fields)
    fit(config, load_data(config), folder, lambda _: None)
    return folder


@pytest.mark.slow
def test_runs_are_rows_and_kinds_of_missingness_columns(make_config: Make, tmp_path: Path) -> None:
    runs = [trained_on(make_config, tmp_path / kind, kind) for kind in ("text", "image")]

    result = CliRunner().invoke(app, ["evaluate", *map(str, runs), "--grid", "--output", str(tmp_path / "grid")])

    assert result.exit_code == 0, result.output
    grid = json.loads((tmp_path / "grid" / "grid.json").read_text())
    assert grid["trained_on"] == ["text: text 50%", "image: image 50%"]
    assert grid["tested_on"] == ["as given", "text 70%", "image 70%", "both 70%"]
    assert "both 70%" in (tmp_path / "grid" / "grid.svg").read_text()
    for run, row in zip(runs, grid["scores"], strict=True):
        assert row[3] == read_json(run / "metrics.json")["test"]["overall"]["accuracy"]  # the run's own test setting


@pytest.mark.slow
def test_a_grid_of_different_tasks_is_refused(make_config: Make, tmp_path: Path) -> None:
    runs = []
    for task in ("colors", "other"):
        trained = load_trained(trained_on(make_config, tmp_path / task, "both", task=task))
        runs.append((task, trained, load_data(trained.config)))

    with pytest.raises(RunError, match="not of colors and other"):
        cross_scenario(runs)


@pytest.mark.parametrize("make", ["make_config", "retrieval_config"])
def test_a_grid_is_scored_on_the_cpu_and_an_undefined_score_is_none(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, make: str
) -> None:
    """As on a GPU, the head cannot take features of the CPU until the model is there. They are not finite."""
    config = request.getfixturevalue(make)()
    data = load_data(config)
    model, preprocessor = build(config, len(data.labels))
    trained = TrainedTask(config, data.labels, "", {}, {}, model, preprocessor)

    def on_gpu(*_: object) -> None:
        raise RuntimeError("Expected all tensors to be on the same device")

    guard = model.head.register_forward_pre_hook(on_gpu)

    def cpu() -> MissingModalityClassifier:
        guard.remove()
        return model

    monkeypatch.setattr(model, "cpu", cpu)
    with torch.no_grad():
        model.head.weight.fill_(math.nan)

    grid = cross_scenario([("run", trained, data)])

    assert grid.scores == ((None,) * 4,)
