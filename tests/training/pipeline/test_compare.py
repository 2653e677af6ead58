"""Comparisons: every method is searched alike, seeds are paired, and finished runs are not run again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from training.cli import app
from training.config import TaskConfig
from training.data.splits import TaskData, load_data
from training.errors import ConfigError, DivergedError, RunError
from training.pipeline import kept_runs
from training.pipeline.compare import METHODS, Runs, compare, start_rate, variant

Make = Callable[..., TaskConfig]


def compared(
    config: TaskConfig,
    folder: Path,
    methods: list[str],
    seeds: list[int] = [0],  # noqa: B006
    search: bool = True,
) -> dict[str, Any]:
    return compare(Runs(config, load_data(config), folder, lambda _: None), methods, seeds, search)


def run_with(folder: Path, accuracy: float | None) -> None:
    views = {view: {"accuracy": accuracy} for view in ("overall", "both", "image", "text")}
    metrics = {"validation": views, "test": views, "trainable_parameters": 1, "seconds": {"train": 1.0}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, int]]:
    """Runs are not trained, but scored: the nearer the learning rate is to 0.003, the better. The list of all runs."""
    ran: list[tuple[str, float, int]] = []

    def score(config: TaskConfig, data: TaskData, folder: Path, *_: object) -> None:
        rate = config.train.learning_rate
        ran.append((folder.name.partition("_")[0], rate, config.train.seed))
        run_with(folder, 1 - abs(np.log(rate / 0.003)) / 10)

    monkeypatch.setattr(kept_runs, "fit", score)
    return ran


def test_the_search_continues_while_the_best_rate_is_at_an_edge(
    make_config: Make, tmp_path: Path, scored: list
) -> None:
    result = compared(make_config(train={"learning_rate": 0.03}), tmp_path, ["lora"])

    assert [rate for _, rate, _ in scored] == [0.00949, 0.03, 0.0949, 0.003, 0.000949, 0.003]
    assert result["methods"]["lora"]["learning_rate"] == pytest.approx(0.003)


def test_every_method_is_searched_alike(make_config: Make, tmp_path: Path, scored: list) -> None:
    compared(make_config(train={"learning_rate": 0.003}), tmp_path, ["lora", "head", "ours"])

    rates = {name: [rate for ran, rate, _ in scored if ran == name] for name in ("lora", "head", "ours")}
    assert rates["lora"] == rates["head"] == rates["ours"] == [0.000949, 0.003, 0.00949, 0.003]


def test_full_fine_tuning_is_searched_a_hundred_times_lower(make_config: Make, tmp_path: Path, scored: list) -> None:
    compared(make_config(train={"learning_rate": 0.3}), tmp_path, ["full"])

    assert [rate for _, rate, _ in scored][:3] == [0.000949, 0.003, 0.00949]


@pytest.mark.parametrize("method", ["lora", "head", "mora-official", "mora-without-gram"])
def test_methods_without_the_probe_begin_at_the_papers_rate_unless_one_is_given(make_config: Make, method: str) -> None:
    assert start_rate(make_config(train={}), method) == 1e-2
    assert start_rate(make_config(train={"learning_rate": 0.05}), method) == 0.05
    assert start_rate(make_config(train={}), "ours") == make_config(train={}).train.learning_rate


@pytest.mark.parametrize("method", [name for name in METHODS if not name.startswith("ours")])
def test_published_methods_are_compared_without_the_probe(make_config: Make, method: str) -> None:
    config = make_config(train={"probe": True, "patience": 0.25})

    train = variant(config, method, 0.01, 0).train

    assert (train.probe, train.patience) == (False, None)
    assert variant(config, "ours", 0.01, 0).train.probe


def test_a_seed_draws_the_same_tables_for_every_method(make_config: Make) -> None:
    configs = [variant(make_config(), name, 0.01, 7) for name in METHODS]

    assert {config.train.seed for config in configs} == {7}
    assert {(c.missing.train.seed, c.missing.validation.seed, c.missing.test.seed) for c in configs} == {(7, 7, 7)}


def test_ours_is_the_configuration_and_baselines_are_plain(make_config: Make) -> None:
    config = make_config(train={"modality_dropout": 0.5, "distillation": 0.5}, mora={"parametrization": "identity"})

    ours, official, lora = (variant(config, name, 0.01, 0) for name in ("ours", "mora-official", "lora"))

    assert (ours.train.modality_dropout, ours.train.distillation) == (0.5, 0.5)
    assert (official.mora.parametrization, official.train.modality_dropout) == ("official", 0)
    assert (lora.method, lora.train.modality_dropout, lora.train.distillation) == ("lora", 0, 0)


def test_an_unknown_method_is_named_before_any_run(make_config: Make, tmp_path: Path, scored: list) -> None:
    with pytest.raises(ConfigError, match="prompt is unknown; choose from majority"):
        compared(make_config(), tmp_path, ["head", "prompt"])

    assert scored == []


def test_a_finished_run_of_another_configuration_is_an_error(make_config: Make, tmp_path: Path) -> None:
    compared(make_config(train={"epochs": 1, "batch_size": 8}), tmp_path, ["head"], search=False)

    with pytest.raises(RunError, match="other config"):
        compared(make_config(train={"epochs": 2, "batch_size": 8}), tmp_path, ["head"], search=False)


def test_a_method_that_diverged_everywhere_is_last(make_config: Make, tmp_path: Path, monkeypatch) -> None:
    def score(config: TaskConfig, data: TaskData, folder: Path, *_: object) -> None:
        run_with(folder, None if config.train.learning_rate > 0.02 else 0.5)

    monkeypatch.setattr(kept_runs, "fit", score)

    result = compared(make_config(train={"learning_rate": 0.01}), tmp_path, ["lora"])["methods"]["lora"]

    assert result["learning_rate"] <= 0.01
    assert result["searched"]["0.0316"] is None


@pytest.mark.parametrize("too_high", [0.02, 0.005, 0.002])
def test_a_rate_at_which_training_diverges_is_announced_and_not_chosen(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, too_high: float
) -> None:
    def score(config: TaskConfig, data: TaskData, folder: Path, *_: object) -> None:
        if config.train.learning_rate > too_high:
            raise DivergedError("training diverged in epoch 1")
        run_with(folder, 0.5)

    monkeypatch.setattr(kept_runs, "fit", score)
    config, notes = make_config(train={"learning_rate": 0.01}), []

    runs = Runs(config, load_data(config), tmp_path, notes.append)
    result = compare(runs, ["lora"], [0], True)["methods"]["lora"]

    assert 0 < result["learning_rate"] <= too_high
    assert result["searched"]["0.0316"] is None
    assert "lora: training diverged in epoch 1" in notes


def test_a_seed_that_diverges_ends_the_comparison(make_config: Make, tmp_path: Path) -> None:
    config = make_config(train={"epochs": 1, "batch_size": 8, "learning_rate": 1e20})

    with pytest.raises(DivergedError, match="epoch 1"):
        compared(config, tmp_path, ["lora"], search=False)


def test_the_command_writes_table_json_and_plot_and_resumes(make_config: Make, tmp_path: Path) -> None:
    config = make_config(train={"epochs": 1, "batch_size": 8, "learning_rate": 1e-2}).model_dump(mode="json")
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(config))
    line = ["compare", str(tmp_path / "task.yaml"), "--methods", "head", "ours", "--seeds", "0", "1"]
    line += ["--search", "nothing", "--output", str(tmp_path / "out")]

    first = CliRunner().invoke(app, line)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*/metrics.json")}
    second = CliRunner().invoke(app, line)

    assert first.exit_code == 0, first.output
    assert second.exit_code == 0, second.output
    assert len(times) == 4
    assert {path: path.stat().st_mtime_ns for path in times} == times
    result = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert list(result["methods"]) == ["head", "ours"]
    assert result["seeds"] == [0, 1]
    assert len(result["methods"]["ours"]["test"]["image"]["accuracy"]) == 2
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert table.startswith("`mora-train compare ")
    assert "| head | 0.01 |" in table
    assert (tmp_path / "out" / "comparison.svg").read_text().startswith("<")
    assert not (tmp_path / "out" / "trunk_cache").exists()
