"""`fit --folds`: a fit for each fold, kept and summed up; impossible requests are one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from training.cli import app
from training.config import TaskConfig
from training.data.splits import TaskData, load_data
from training.errors import ConfigError, RunError
from training.pipeline import kept_runs
from training.pipeline.cross_validation import cross_validate

Make = Callable[..., TaskConfig]


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """Folds are not trained; the list of their names and tested rows. Fold 2 has no AUROC."""
    ran: list[tuple[str, list[int]]] = []

    def fit(config: TaskConfig, data: TaskData, folder: Path, *_: object, **__: object) -> None:
        ran.append((folder.name, [item.row for item in data.test.items]))
        views = {"overall": {"items": len(data.test.items), "accuracy": 0.5 + len(ran) / 10}}
        if folder.name != "fold-2-of-3":
            views["overall"]["auroc"] = 0.9
        folder.mkdir(parents=True)
        for name in ("config.json", "task.json"):
            (folder / name).write_text("{}")
        (folder / "metrics.json").write_text(json.dumps({"test": views}))

    monkeypatch.setattr(kept_runs, "fit", fit)
    monkeypatch.setattr(kept_runs, "open_run", lambda *_: None)
    return ran


def validated(config: TaskConfig, folder: Path, folds: int = 3, **options: Any) -> dict:
    return cross_validate(config, load_data(config), folds, folder, lambda _: None, **options)


def test_each_fold_is_fitted_once_and_its_scores_are_kept(make_config: Make, tmp_path: Path, fitted: list) -> None:
    scores = validated(make_config(), tmp_path / "folds")
    again = validated(make_config(), tmp_path / "folds")

    assert [name for name, _ in fitted] == ["fold-1-of-3", "fold-2-of-3", "fold-3-of-3"]
    assert sorted(row for _, rows in fitted for row in rows) == [*range(1, 25)]
    assert scores == again
    assert scores["overall"]["accuracy"] == pytest.approx([0.6, 0.7, 0.8])
    assert scores["overall"]["auroc"] == [0.9, None, 0.9]
    assert json.loads((tmp_path / "folds" / "folds.json").read_text())["test"] == scores


def test_overwrite_fits_the_folds_again(make_config: Make, tmp_path: Path, fitted: list) -> None:
    validated(make_config(), tmp_path / "folds")
    validated(make_config(), tmp_path / "folds", overwrite=True)

    assert len(fitted) == 6


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_missing_table_of_a_file_is_refused(make_config: Make, tmp_path: Path, fitted: list, split: str) -> None:
    config = make_config(missing={split: {"table": "table.npy"}})

    with pytest.raises(ConfigError, match=rf"missing\.{split}\.table has no entries; remove it"):
        validated(config, tmp_path / "folds")


def test_the_folder_of_a_run_is_refused(make_config: Make, tmp_path: Path, fitted: list) -> None:
    (tmp_path / "config.json").write_text("{}")

    with pytest.raises(RunError, match="holds a run of `mora-train fit`; choose another --output for the folds"):
        validated(make_config(), tmp_path)


@pytest.mark.parametrize(
    ("more", "exit_code", "says"),
    [
        (["--folds", "3", "--publish", "store"], 1, "--folds keeps no model, so --publish needs a command of its own"),
        (["--folds", "3", "--search", "5"], 1, "--folds keeps no model, so --search needs a command of its own"),
        (["--folds", "25"], 1, "has 24 rows, too few for 25 folds; give at most 24"),
        (["--folds", "1"], 2, "--folds"),
        (["--folds", "0"], 2, "--folds"),
        (["--folds", "many"], 2, "--folds"),
    ],
)
def test_impossible_folds_are_one_line(
    make_config: Make, tmp_path: Path, more: list[str], exit_code: int, says: str
) -> None:
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(make_config().model_dump(mode="json")))

    done = CliRunner().invoke(app, ["fit", str(tmp_path / "task.yaml"), "--output", str(tmp_path / "run"), *more])

    assert done.exit_code == exit_code
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert says in line


def test_the_command_prints_the_spread_and_keeps_no_model(make_config: Make, tmp_path: Path) -> None:
    config = make_config(train={"epochs": 1, "batch_size": 8}).model_dump(mode="json")
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(config))

    done = CliRunner().invoke(
        app, ["fit", str(tmp_path / "task.yaml"), "--output", str(tmp_path / "folds"), "--folds", "2"]
    )

    assert done.exit_code == 0, done.output
    assert "test of 2 folds in percent: mean ± standard deviation" in done.output
    assert "no model is kept; `mora-train fit" in done.output
    assert not (tmp_path / "folds" / "trunk_cache").exists()
    scores = json.loads((tmp_path / "folds" / "folds.json").read_text())["test"]
    assert sum(scores["overall"]["items"]) == 24
