"""Finished runs, opened again: with their own data, with data that moved, and refused with the cure."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.cli import app
from training.config import TaskConfig
from training.data.splits import Split, load_data
from training.errors import ConfigError, RunError
from training.learning.run_folder import read_json
from training.pipeline.fit import fit
from training.pipeline.reopen import evaluate_again, open_finished, reopen

Make = Callable[..., TaskConfig]


@pytest.fixture
def run(make_config: Make, tmp_path: Path) -> Path:
    config = make_config(train={"epochs": 1, "batch_size": 8})
    fit(config, load_data(config), tmp_path / "run", lambda _: None)
    return tmp_path / "run"


def test_a_run_that_moved_is_evaluated_on_data_that_moved(run: Path, make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    before = read_json(run / "metrics.json")
    moved = run.rename(tmp_path / "elsewhere")
    splits = ("train", "validation", "test")
    copies = {name: shutil.copy(getattr(config.data, name), tmp_path / f"{name}.parquet") for name in splits}
    flags = [word for name, path in copies.items() for word in (f"--data.{name}", str(path))]

    result = CliRunner().invoke(app, ["evaluate", str(moved), *flags])

    assert result.exit_code == 0, result.output
    assert read_json(moved / "metrics.json")["test"] == before["test"]


def test_scores_on_other_data_are_not_saved(run: Path, make_config: Make) -> None:
    before = (run / "metrics.json").read_text()
    notes: list[str] = []
    flags = ["--data.test", str(make_config().data.validation)]

    trained, data = open_finished(run, flags, None, notes.append)
    metrics, saved = evaluate_again(run, trained, data)

    assert (saved, notes) == (False, [f"this is not the data that {run} was trained with"])
    assert metrics["test"] == metrics["validation"] or metrics["test"]["overall"]["items"] == 9
    assert (run / "metrics.json").read_text() == before


def test_only_data_and_export_can_be_changed_after_training(run: Path, make_config: Make) -> None:
    with pytest.raises(ConfigError, match=r"--train\.epochs cannot be changed after training"):
        open_finished(run, ["--train.epochs", "3"], None, print)

    trained, _ = open_finished(run, ["--export.precisions", "[fp16]"], None, print)
    again = reopen(
        run, make_config(train={"epochs": 1, "batch_size": 8}, export={"accuracy_budget": 3}), load_data(trained.config)
    )

    assert trained.config.export.precisions == ("fp16",)
    assert again.config.export.accuracy_budget == 3


def test_a_run_of_data_that_has_changed_is_refused_with_the_cure(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(config: TaskConfig) -> object:
        data = load_data(config)
        return dataclasses.replace(data, train=Split("train", "made", data.train.items[1:]))

    monkeypatch.setattr("training.pipeline.reopen.load_data", changed)

    with pytest.raises(RunError, match=r"has changed since it was trained; add --data\.test PATH"):
        open_finished(run, [], None, print)


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a folder; name the DIR of"):
        open_finished(tmp_path / "shp", [], None, print)
    with pytest.raises(RunError, match="is not a finished run; give the same"):
        open_finished(tmp_path, [], None, print)
