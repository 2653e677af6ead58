"""Training runs: their files, resuming, and equal results of equal runs."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from model_store import Store
from model_store.cli import app as mora_store
from training.cli import app
from training.config import TaskConfig, TrainConfig
from training.data.splits import TaskData, load_data
from training.learning.candidate import Candidate, Choice
from training.learning.run_folder import read_json
from training.learning.runs import load_trained
from training.pipeline.fit import fit
from training.pipeline.reopen import reopen

Make = Callable[..., TaskConfig]
Change = Callable[[TaskConfig, TaskData], TaskData]
SPLITS = ("train", "validation", "test")


@pytest.fixture
def config_file(make_config: Make, tmp_path: Path) -> Callable[..., Path]:
    def write(**fields) -> Path:
        path = tmp_path / "task.yaml"
        path.write_text(yaml.safe_dump(make_config(**fields).model_dump(mode="json")))
        return path

    return write


@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
@pytest.mark.slow
def test_a_run_writes_adapter_tables_and_metrics(
    make_config: Make, tmp_path: Path, damage: Callable[[], None], problem: str
) -> None:
    damage()
    config = make_config(problem=problem)
    data = load_data(config)

    fit(config, data, tmp_path)

    metrics = read_json(tmp_path / "metrics.json")
    assert set(metrics["test"]) == {"overall", "both", "image", "text"}
    share = "accuracy" if problem == "single_label" else "exact_match"
    assert {share, "macro_f1", "ece"} <= set(metrics["test"]["overall"])
    intervals, baselines = metrics["intervals"]["test"], metrics["baselines"]
    for view, scores in metrics["test"].items():
        assert set(intervals[view]) == {name for name, value in scores.items() if value is not None} - {"items"}
        assert set(baselines["test"][view]) == {"majority", "chance"}
    assert baselines["metric"] == ("accuracy" if problem == "single_label" else "macro_f1")
    assert metrics["damaged_inputs"]["items"] == 12
    for pattern, undamaged in metrics["damaged_inputs"]["undamaged"].items():
        assert undamaged == metrics["test"][pattern][baselines["metric"]]
    assert metrics["test"]["overall"]["items"] == 12
    assert metrics["test"]["image"]["items"] == 10  # 3 and 10 of 0..11 have no image
    state = load_file(tmp_path / "adapter.safetensors")
    assert metrics["trainable_parameters"] == sum(value.numel() for value in state.values())
    described = read_json(tmp_path / "task.json")
    assert described["task_config"]["method"] == "mora"
    assert described["adapted_layers"] == {"image": [2, 3], "text": [1, 2]}
    assert not (tmp_path / "adapter_config.json").exists()  # that is PEFT's, which cannot load MoRA
    assert len(list((tmp_path / "missing_tables").glob("colors_*_missing_both_ratio0.5_both0.5_seed0.npy"))) == 3
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_adapter_and_metrics(make_config: Make, tmp_path: Path) -> None:
    config = make_config()

    states = [fit(config, load_data(config), tmp_path / name).model.state_dict() for name in ("a", "b")]

    assert all(states[0][name].equal(states[1][name]) for name in states[0])
    first, second = (read_json(tmp_path / name / "metrics.json") for name in ("a", "b"))
    assert first.pop("seconds") != {}
    second.pop("seconds")
    assert json.dumps(first) == json.dumps(second)


@pytest.mark.slow
def test_a_killed_run_resumes_and_ends_like_a_run_that_was_not_killed(
    config_file: Callable[..., Path], make_config: Make, tmp_path: Path
) -> None:
    train = {"epochs": 12, "batch_size": 8, "learning_rate": 1e-2}
    path = config_file(train=train)
    command = [
        str(Path(sys.executable).with_name("mora-train")),
        "fit",
        str(path),
        "--output",
        str(tmp_path / "killed"),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "killed" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoints.is_dir(), "the run was not killed in the middle"

    resumed = CliRunner().invoke(app, command[1:])

    assert resumed.exit_code == 0, resumed.output
    config = make_config(train=train)
    whole = fit(config, load_data(config), tmp_path / "whole")
    state = load_file(tmp_path / "killed" / "adapter.safetensors")
    for name, value in whole.model.state_dict().items():
        assert value.allclose(state[name], rtol=0, atol=1e-6), name
    again = CliRunner().invoke(app, command[1:])
    assert "nothing to train" in again.stdout


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(
    config_file: Callable[..., Path], make_config: Make, tmp_path: Path
) -> None:
    """With gloo; the 24 items make whole batches, and without dropout nothing else is drawn in a process."""
    train = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, "modality_dropout": 0.5, "distillation": 0.5}
    fields = {"train": train, "mora": {"dropout": 0.0, "parametrization": "identity"}}
    config, runs = make_config(**fields), [tmp_path / "1", tmp_path / "2"]
    fit(config, load_data(config), runs[0])

    command = [sys.executable, "-m", "training.cli", "fit", str(config_file(**fields)), "--output", str(runs[1])]
    outputs = in_processes(2, command)

    assert [output.count("│ Accuracy") for output in outputs] == [1, 0]  # one process prints
    states = [load_file(run / "adapter.safetensors") for run in runs]
    for name, value in states[0].items():
        assert value.allclose(states[1][name], rtol=0, atol=1e-4), name
    histories = [json.loads((run / "history.json").read_text()) for run in runs]
    losses = [[entry["loss"] for entry in history if "loss" in entry] for history in histories]
    assert len(losses[0]) == 2
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize("method", ["mora", "lora", "bitfit"])
@pytest.mark.slow
def test_the_command_ends_a_diverging_training_with_one_line(
    config_file: Callable[..., Path], tmp_path: Path, method: str
) -> None:
    path = config_file(method=method, train={"epochs": 1, "batch_size": 8, "learning_rate": 1e30})

    result = CliRunner().invoke(app, ["fit", str(path), "--output", str(tmp_path / "run")])

    assert result.exit_code == 1
    assert re.search(r"^error: training diverged in epoch 1, step \d of 3: .*\n\Z", result.stderr, re.MULTILINE)
    assert not (tmp_path / "run" / "metrics.json").exists()


def in_processes(number: int, command: list[str]) -> list[str]:
    """What the processes of a command print that are started as torchrun starts them, without its own imports."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(number)}
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **address}
    started = [
        subprocess.Popen(
            command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=-1, stderr=-1, text=True
        )
        for rank in range(number)
    ]
    ended = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * number, ended
    return [output for output, _ in ended]


@pytest.mark.full_only
def test_three_processes_write_each_file_once(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """With torchrun. Also when the run goes on from a checkpoint, with tables and a cache that exist."""
    path = config_file(train={"epochs": 1, "batch_size": 6, "learning_rate": 1e-2})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]
    command += ["-m", "training.cli", "fit", str(path), "--output", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    files = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    tables = {f"missing_tables/colors_{split}_missing_both_ratio0.5_both0.5_seed0.npy" for split in SPLITS}
    assert files == {
        "adapter.safetensors",
        "config.json",
        "data_rows.json",
        "history.json",
        "metrics.json",
        "report.html",
        "task.json",
        "test_scores.json",
        *tables,
    }
    assert done.stderr.count("note: the frozen layers' outputs take") == 1


@pytest.mark.parametrize("cache_trunk", [True, False])
def test_a_process_that_is_not_the_first_writes_nothing_of_its_own(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_trunk: bool
) -> None:
    """It draws the tables that the first process saves, so it needs no file of them."""
    for module in ("training.pipeline.fit", "training.learning.training_setup"):
        monkeypatch.setattr(f"{module}.is_main_process", lambda: False)
    config = make_config(train={"epochs": 1, "batch_size": 8, "cache_trunk": cache_trunk})

    fit(config, load_data(config), tmp_path / "run")

    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "data_rows.json", "checkpoints"}


def described_method(run: Path) -> str:
    return str(read_json(run / "task.json")["task_config"]["method"])


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("mora", "single_label"),
        ("lora", "multi_label"),
        ("head", "single_label"),
    ],
)
@pytest.mark.slow
def test_a_training_that_does_not_beat_the_probe_gives_the_probe(
    make_config: Make, tmp_path: Path, method: str, problem: str
) -> None:
    train = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-9, "probe": True}
    config, notes = make_config(method=method, problem=problem, train=train), []

    trained = fit(config, load_data(config), tmp_path / "run", notes.append)

    metrics = read_json(tmp_path / "run" / "metrics.json")
    score = metrics["probe"]["test"]["overall"]["macro_f1" if problem == "multi_label" else "accuracy"]
    assert any("linear probe on the frozen features" in note and f"{score:.4f} on test" in note for note in notes)
    reason = f"the linear probe is the result: on validation the log loss of {method}"
    assert any(note.startswith(reason) for note in notes)
    assert described_method(tmp_path / "run") == "head"
    assert metrics["probe"]["result"] == "the linear probe"
    assert {name: metrics["probe"][name] for name in ("validation", "test")} == {
        name: metrics[name] for name in ("validation", "test")
    }
    again = load_trained(tmp_path / "run")
    assert again.model.head.weight.equal(trained.model.head.weight)
    assert reopen(tmp_path / "run", config, load_data(config)).calibration == trained.calibration


@pytest.mark.parametrize("method", ["mora", "head"])
def test_a_training_from_the_probe_that_is_better_is_kept(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(Choice, "best", property(lambda choice: choice.trained))
    train = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "probe": True}
    config, notes = make_config(method=method, train=train), []

    fit(config, load_data(config), tmp_path, notes.append)

    assert described_method(tmp_path) == method
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["probe"]["test"]["overall"]["items"] == metrics["test"]["overall"]["items"]
    assert metrics["probe"]["test"] != metrics["test"]
    assert metrics["probe"]["result"] == method
    assert any(note.startswith(f"{method} is the result") for note in notes)


@pytest.mark.parametrize(("few", "noted"), [(20, ["both"]), (1000, ["both", "image", "text"])])
@pytest.mark.slow
def test_patterns_with_too_few_items_to_calibrate_are_named(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int, noted: list[str]
) -> None:
    """The probe answers nine validation items and, by cross-fitting, 24 of train; half of all items are incomplete."""
    monkeypatch.setattr("training.pipeline.fit.FEW_ITEMS", few)
    config, notes = make_config(train={"epochs": 1, "learning_rate": 1e-9, "probe": True}), []

    fit(config, load_data(config), tmp_path, notes.append)

    items = read_json(tmp_path / "metrics.json")["calibration_items"]
    named = [note for note in notes if "too few to calibrate" in note]
    assert named == [
        f"{pattern}: {items[pattern]} held-out items are too few to calibrate by themselves; {few} are enough"
        for pattern in noted
    ]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (80, ("a red thing", "a blue thing")),
        (120, ("cheap shoes", "old books and maps")),
    ],
)
def test_two_labels_that_texts_separate_are_learnt_with_default_values(
    make_config: Make, tmp_path: Path, rows: int, words: tuple[str, str]
) -> None:
    table = tmp_path / "items.csv"
    lines = [f"{words[row % 2]} {row // 2},{'ab'[row % 2]}\n" for row in range(rows)]
    table.write_text("text,label\n" + "".join(lines))
    train = TrainConfig().model_dump()
    config = make_config(data={"train": str(table), "image": None}, missing={}, train=train)

    fit(config, load_data(config), tmp_path / "run", lambda _: None)

    assert read_json(tmp_path / "run" / "metrics.json")["test"]["overall"]["accuracy"] >= 0.98


def test_nothing_is_trained_if_the_probe_leaves_nothing_to_gain(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Candidate, "is_perfect", property(lambda _: True))
    config, notes = make_config(train={"probe": True}), []

    trained = fit(config, load_data(config), tmp_path, notes.append)

    assert described_method(tmp_path) == "head"
    assert json.loads((tmp_path / "history.json").read_text()) == []
    assert any("so no adapter is trained" in note for note in notes)
    assert reopen(tmp_path, config, load_data(config)).calibration == trained.calibration


@pytest.mark.parametrize(("problem", "probe"), [("single_label", True), ("multi_label", True), ("multi_label", False)])
@pytest.mark.slow
def test_a_run_with_class_weights_differs_from_one_without(
    make_config: Make, tmp_path: Path, problem: str, probe: bool
) -> None:
    def trained(class_weights: str) -> dict[str, torch.Tensor]:
        train = {"epochs": 1, "batch_size": 8, "probe": probe, "class_weights": class_weights}
        config = make_config(problem=problem, train=train, labels=["blue", "green", "red", "never seen"])
        data = load_data(config)
        rarer = [item for item in data.train.items if "blue" not in item.labels or item.row % 4 == 3]
        data = dataclasses.replace(data, train=dataclasses.replace(data.train, items=rarer))
        task = fit(config, data, tmp_path / class_weights)
        assert read_json(tmp_path / class_weights / "metrics.json")["test"]["overall"]["log_loss"] is not None
        return task.model.head.state_dict()

    weighted, plain = trained("balanced"), trained("none")

    assert all(value.isfinite().all() for value in weighted.values())
    assert not torch.equal(weighted["bias"], plain["bias"])


@pytest.mark.parametrize("train", [{}, {"cache_trunk": False}, {"class_weights": "balanced"}], ids=str)
@pytest.mark.slow
def test_a_trained_model_that_wins_is_cross_fitted_unless_labels_are_weighted(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: dict[str, Any]
) -> None:
    monkeypatch.setattr(Choice, "best", property(lambda choice: choice.trained))
    config = make_config(train={"probe": True, "epochs": 1, "batch_size": 8, **train})
    data, notes = load_data(config), []

    fit(config, data, tmp_path, notes.append)

    items = read_json(tmp_path / "metrics.json")["calibration_items"]["both"]
    is_cross_fitted = "class_weights" not in train
    assert (items > len(data.validation.items)) is is_cross_fitted
    assert any("3 times more" in note for note in notes) is is_cross_fitted


@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
@pytest.mark.slow
def test_validation_items_are_set_apart_for_label_sets(
    make_config: Make, divisible: dict[str, str], tmp_path: Path, problem: str
) -> None:
    label = "labels" if problem == "multi_label" else "label"
    config = make_config(problem=problem, method="head", data={**divisible, "label": label}, train={"epochs": 1})
    notes: list[str] = []

    trained = fit(config, load_data(config), tmp_path, notes.append)

    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["validation"]["overall"]["items"] == 60
    assert not any("no label sets" in note for note in notes)
    described = read_json(tmp_path / "task.json")["label_sets"]
    for pattern in ("both", "image", "text"):
        items = described["by_pattern"][pattern]["items"]
        assert 0 < items <= 60
        assert trained.label_sets.highest_coverage(pattern) == pytest.approx(items / (items + 1), abs=1e-3)
        assert metrics["coverage"][pattern]["0.9"]["items"] == metrics["test"][pattern]["items"]
        assert ("by_class" in metrics["coverage"][pattern]["0.9"]) is (problem == "single_label")
    assert metrics["coverage_warnings"] == []  # no class has 30 calibration items
    assert load_trained(tmp_path).label_sets == trained.label_sets
    assert 'id="coverage"' in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(("share", "noted"), [(0.5, ["it has 9"]), (0.01, ["it has 9"]), (0, [])])
@pytest.mark.slow
def test_a_small_validation_split_has_no_label_sets_and_says_so(
    make_config: Make, tmp_path: Path, share: float, noted: list[str]
) -> None:
    config, notes = make_config(method="head", train={"epochs": 1}, coverage={"share": share}), []

    trained = fit(config, load_data(config), tmp_path, notes.append)

    lines = [note for note in notes if "label sets" in note]
    assert lines == [
        f"no label sets: they need a validation split of 100 items, copies counted once, and {each}" for each in noted
    ]
    assert trained.label_sets is None
    metrics = read_json(tmp_path / "metrics.json")
    assert (metrics["validation"]["overall"]["items"], metrics["coverage"]) == (9, {})
    assert 'id="coverage"' not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("method", "train", "is_trained"),
    [
        ("mora", {"probe": False, "class_weights": "balanced"}, None),
        ("head", {"probe": True}, True),  # also cross-fitted
        ("head", {"probe": True}, False),  # the probe
    ],
)
@pytest.mark.slow
def test_calibration_items_choose_neither_the_model_nor_its_temperatures(
    make_config: Make,
    divisible: dict[str, str],
    other_calibration: Change,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    train: dict[str, Any],
    is_trained: bool | None,
) -> None:
    monkeypatch.setattr(Choice, "best", property(lambda choice: choice.trained if is_trained else choice.probe))
    monkeypatch.setattr("training.learning.probe.CROSS_FITTED", 10)  # folds of the probe take time
    config = make_config(method=method, data=divisible, train={"epochs": 1, "batch_size": 8, **train})
    data = load_data(config)

    first = fit(config, data, tmp_path / "first", lambda _: None)
    other = fit(config, other_calibration(config, data), tmp_path / "other", lambda _: None)

    assert all(value.equal(other.model.state_dict()[name]) for name, value in first.model.state_dict().items())
    assert first.calibration == other.calibration
    metrics = [read_json(tmp_path / name / "metrics.json") for name in ("first", "other")]
    same = ("validation", "test", "intervals", "baselines", "calibration_items", *(["probe"] if train["probe"] else []))
    assert [metrics[0][name] for name in same] == [metrics[1][name] for name in same]
    assert first.label_sets.by_pattern != other.label_sets.by_pattern  # they know the other texts


def test_label_sets_are_published_and_shown(
    config_file: Callable[..., Path], divisible: dict[str, str], tmp_path: Path
) -> None:
    path = config_file(method="head", data=divisible, train={"epochs": 1}, export={"precisions": []})
    run, store = tmp_path / "run", tmp_path / "store"

    done = CliRunner().invoke(app, ["fit", str(path), "--output", str(run), "--publish", str(store)])
    shown = CliRunner().invoke(mora_store, ["show", "colors", "--store", str(store)], env={"COLUMNS": "200"})

    assert done.exit_code == 0, done.output
    published = Store(store).verify("colors", 1).label_sets
    assert published == load_trained(run).label_sets is not None
    for pattern, quantiles in published.by_pattern.items():
        highest = f"{published.highest_coverage(pattern):g}"
        assert f"coverage up to {highest}, from {quantiles.items} items" in shown.output
