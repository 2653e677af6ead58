"""`fit --search`: what is tried, what is kept, what the budget allows, and that the test split is never seen.

Covers training.pipeline.kept_runs, training.learning.trials.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from training.cli import app
from training.config import TaskConfig
from training.data.calibration_split import learning_split
from training.data.missing import draw_tables
from training.data.splits import TaskData, load_data
from training.errors import DivergedError, RunError
from training.learning.trials import Found
from training.pipeline import kept_runs
from training.pipeline import search as searching
from training.pipeline.search import discard_search, search, search_folder

Make = Callable[..., TaskConfig]
Peak = tuple[float, int, int]  # learning rate, first layer, rank


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """`clock["now"]`, which only trials move on: by `clock["trial"]` seconds each."""
    time = {"now": 0.0, "trial": 60.0}
    monkeypatch.setattr(searching.time, "monotonic", lambda: time["now"])
    return time


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch, clock: dict[str, float]) -> list[Peak]:
    """Runs are not trained, but scored: the nearer to `PEAK`, the better."""
    ran: list[Peak] = []

    def score(config: TaskConfig, data: TaskData, folder: Path, *_: object, **__: object) -> None:
        clock["now"] += clock["trial"]
        values = (config.train.learning_rate, config.mora.first_layer, config.mora.rank)
        ran.append(values)
        assert data.test.items == learning_split(config, data.validation).items
        rate, layer, rank = values
        if rate > 0.05:
            raise DivergedError("training diverged in epoch 1; lower it")
        distance = abs(math.log10(rate / 0.003)) + abs((layer or 0) - 2) / 10 + abs(math.log2(rank / 8)) / 100
        views = {"overall": {"accuracy": 1 - distance / 10, "macro_f1": 0.5, "log_loss": 0.5}}
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"validation": views, "test": views}))

    monkeypatch.setattr(kept_runs, "fit", score)
    return ran


def searched(config: TaskConfig, folder: Path, minutes: float = 1e6, announce: Callable = lambda _: None) -> Found:
    return search(config, load_data(config), folder, minutes, announce)


def test_each_field_is_searched_and_the_best_is_kept(make_config: Make, tmp_path: Path, tried: list[Peak]) -> None:
    found = searched(make_config(train={"learning_rate": 0.003}), tmp_path / "search")

    assert tried[0] == (0.003, 1, 4)  # the configuration itself; the tiny backbone's shallower tower has three layers
    assert (found.config.train.learning_rate, found.config.mora.first_layer, found.config.mora.rank) == (0.003, 2, 8)
    assert found.is_complete
    assert len(set(tried)) == len(tried) == len(found.trials)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("mora", ["train.learning_rate", "mora.first_layer", "mora.rank"]),
        ("lora", ["train.learning_rate", "mora.first_layer", "mora.rank"]),
        ("bitfit", ["train.learning_rate", "mora.first_layer"]),
        ("head", ["train.learning_rate"]),
        ("full", ["train.learning_rate"]),
    ],
)
def test_only_fields_that_the_method_has_are_searched(
    make_config: Make, tmp_path: Path, tried: list[Peak], method: str, fields: list[str]
) -> None:
    found = searched(make_config(method=method), tmp_path / "search")

    assert all([*trial.values] == fields for trial in found.trials)


@pytest.mark.parametrize(("minutes", "trials"), [(0.1, 1), (2.9, 1), (3, 2), (5, 4), (7.5, 6)])
def test_the_budget_holds_the_trials_and_the_fit_that_follows(
    make_config: Make, tmp_path: Path, tried: list[Peak], minutes: float, trials: int
) -> None:
    """Each trial takes a minute."""
    found = searched(make_config(), tmp_path / "search", minutes)

    assert len(found.trials) == len(tried) == trials
    assert not found.is_complete


def test_an_interrupted_search_goes_on_where_it_was(
    make_config: Make, tmp_path: Path, tried: list[Peak], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = searched(make_config(), tmp_path / "whole", 8)
    expected = tried.copy()
    tried.clear()

    first = searched(make_config(), tmp_path / "search", 4)
    again = searched(make_config(), tmp_path / "search", 4)
    assert (len(tried), again.trials) == (3, first.trials)
    longer = searched(make_config(), tmp_path / "search", 8)

    assert tried == expected
    assert longer.trials == whole.trials
    assert not [*(tmp_path / "search").glob("trial-*")]


@pytest.mark.parametrize(
    "changed",
    [{"train": {"epochs": 3}}, {"mora": {"rank": 2}}, {"method": "head"}, {"labels": ["blue", "green", "red"]}],
)
def test_the_folder_of_another_search_is_refused(
    make_config: Make, tmp_path: Path, tried: list[Peak], changed: dict[str, Any]
) -> None:
    searched(make_config(), tmp_path / "search", 1)

    with pytest.raises(RunError, match="the search of another configuration or other data; choose another --output"):
        searched(make_config(**changed), tmp_path / "search", 1)
    discard_search(tmp_path / "search")
    searched(make_config(**changed), tmp_path / "search", 1)


def test_a_folder_that_is_no_search_is_left_alone(make_config: Make, tmp_path: Path, tried: list[Peak]) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "mine.txt").write_text("mine")

    discard_search(tmp_path / "search")
    with pytest.raises(RunError, match="holds no search; remove it"):
        searched(make_config(), tmp_path / "search", 1)

    assert (tmp_path / "search" / "mine.txt").exists()


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_search_that_was_killed_before_its_first_trial_begins_again(
    make_config: Make, tmp_path: Path, tried: list[Peak], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(searching, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            searched(make_config(), tmp_path / "search", 1)

    assert len(searched(make_config(), tmp_path / "search", 1).trials) == 1


def removed_in_part(folder: Path, ignore_errors: bool = False) -> None:
    """Remove the first file of a folder; then the process is killed."""
    for path in sorted(folder.glob("*.json")):
        path.unlink()
        raise KeyboardInterrupt


def test_a_kill_while_a_trial_is_removed_does_not_end_the_search(
    make_config: Make, tmp_path: Path, tried: list[Peak], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(searching.shutil, "rmtree", removed_in_part)
        with pytest.raises(KeyboardInterrupt):
            searched(make_config(), tmp_path / "search", 1)

    assert not [*(tmp_path / "search").glob("trial-*")]
    assert len(searched(make_config(), tmp_path / "search", 1).trials) == 1


def test_a_search_that_was_killed_while_it_was_discarded_is_gone(
    make_config: Make, tmp_path: Path, tried: list[Peak], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched(make_config(), tmp_path / "search", 1)
    with monkeypatch.context() as patch:
        patch.setattr(searching.shutil, "rmtree", removed_in_part)
        with pytest.raises(KeyboardInterrupt):
            discard_search(tmp_path / "search")

    discard_search(tmp_path / "search")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.04])
def test_trials_that_diverge_are_noted_and_not_chosen(
    make_config: Make, tmp_path: Path, tried: list[Peak], rate: float
) -> None:
    notes: list[str] = []
    found = searched(make_config(train={"learning_rate": rate}), tmp_path / "search", announce=notes.append)

    assert found.best.selection is not None
    assert found.config.train.learning_rate < 0.05
    assert [trial for trial in found.trials if trial.selection is None]
    assert any(note.endswith(": training diverged in epoch 1") for note in notes)


def test_a_search_in_which_all_diverges_says_so(make_config: Make, tmp_path: Path, tried: list[Peak]) -> None:
    with pytest.raises(DivergedError, match=r"diverged at every learning rate that was tried \(50\)"):
        searched(make_config(train={"learning_rate": 50}), tmp_path / "search", 1)


def test_a_small_validation_split_is_noted(make_config: Make, tmp_path: Path, tried: list[Peak]) -> None:
    notes: list[str] = []
    searched(make_config(), tmp_path / "search", 1, notes.append)

    assert notes[0].startswith("validation has 9 items, so the best of several trials may be the best by chance")


@pytest.mark.slow
def test_the_command_prints_the_table_and_trains_the_best(make_config: Make, tmp_path: Path) -> None:
    config = make_config(method="head", train={"epochs": 1, "batch_size": 8}).model_dump(mode="json")
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(config))
    run = tmp_path / "run"
    line = ["fit", str(tmp_path / "task.yaml"), "--output", str(run), "--search", "10"]

    first = CliRunner().invoke(app, line)
    second = CliRunner().invoke(app, line)

    assert first.exit_code == 0, first.output
    assert "validation scores of " in first.output
    saved = json.loads((search_folder(run) / "search.json").read_text())
    best = max(saved["trials"], key=lambda trial: trial["selection"])
    trained = json.loads((run / "config.json").read_text())["config"]["train"]["learning_rate"]
    assert trained == pytest.approx(best["values"]["train.learning_rate"])
    assert not (search_folder(run) / "trunk_cache").exists()
    assert second.exit_code == 0, second.output
    assert "is finished; nothing to train" in " ".join(second.output.split())


@pytest.mark.parametrize("minutes", ["0", "-3", "nan", "inf", "long"])
def test_a_budget_that_is_no_time_is_refused(tmp_path: Path, minutes: str) -> None:
    done = CliRunner().invoke(app, ["fit", "task.yaml", "--output", str(tmp_path / "run"), "--search", minutes])

    assert done.exit_code == 2
    assert "--search" in done.output


@pytest.mark.parametrize("option", [["--search", "5"], ["--folds", "3"]])
def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: list[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")

    done = CliRunner().invoke(app, ["fit", "task.yaml", "--output", str(tmp_path / "run"), *option])

    assert done.exit_code == 1
    assert "run in one process; start the command without torchrun" in " ".join(done.output.split())


@pytest.mark.parametrize("table", [False, True], ids=["a drawn table", "a table from a file"])
@pytest.mark.slow
def test_calibration_items_choose_no_trial(
    make_config: Make,
    divisible: dict[str, str],
    other_calibration: Callable[[TaskConfig, TaskData], TaskData],
    tmp_path: Path,
    table: bool,
) -> None:
    """One trial of two searches, whose data differ in the items that are set apart."""
    missing = {"type": "both", "ratio": 0.5}
    if table:
        drawn = make_config(data=divisible, missing={"validation": missing})
        draw_tables(drawn, load_data(drawn), tmp_path)
        (file,) = tmp_path.glob("colors_validation_*.npy")
        missing["table"] = str(file)
    config = make_config(method="head", data=divisible, missing={"validation": missing}, train={"epochs": 1})
    data = load_data(config)

    tried = [
        search(config, each, tmp_path / name, 1e-9, lambda _: None).trials
        for name, each in {"first": data, "other": other_calibration(config, data)}.items()
    ]

    assert [len(trials) for trials in tried] == [1, 1]
    assert tried[0][0].scores == tried[1][0].scores
    assert tried[0][0].scores["items"] == 60


@pytest.mark.parametrize(("share", "noted"), [(0.9, True), (0.5, False), (0, False)])
def test_few_items_that_choose_are_noted(
    make_config: Make, divisible: dict[str, str], tmp_path: Path, tried: list[Peak], share: float, noted: bool
) -> None:
    """Of 120 validation items."""
    notes: list[str] = []
    config = make_config(data=divisible, coverage={"share": share})
    search(config, load_data(config), tmp_path / "search", 1, notes.append)

    assert any(note.startswith("validation has 12 items, so the best") for note in notes) is noted
