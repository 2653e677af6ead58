"""Training runs: what they write, how they resume, how two runs compare."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import set_seed
from typer.testing import CliRunner

from training.cli import app
from training.config import TaskConfig
from training.data.splits import Split, load_data
from training.errors import RunError
from training.learning.runs import build, load_trained, read_json
from training.learning.trainer import last_checkpoint, training_arguments
from training.pipeline.fit import discard, fit, open_run

Make = Callable[..., TaskConfig]


@pytest.fixture
def config_file(make_config: Make, tmp_path: Path) -> Callable[..., Path]:
    def write(**fields) -> Path:
        path = tmp_path / "task.yaml"
        path.write_text(yaml.safe_dump(make_config(**fields).model_dump(mode="json")))
        return path

    return write


@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_a_run_writes_adapter_tables_and_metrics(make_config: Make, tmp_path: Path, problem: str) -> None:
    config = make_config(problem=problem)
    data = load_data(config)

    fit(config, data, tmp_path)

    metrics = read_json(tmp_path / "metrics.json")
    assert set(metrics["test"]) == {"overall", "both", "image", "text"}
    assert {"accuracy", "macro_f1", "ece"} <= set(metrics["test"]["overall"])
    assert metrics["test"]["overall"]["items"] == 12
    assert metrics["test"]["image"]["items"] == 10  # 3 and 10 of 0..11 have no image
    state = load_file(tmp_path / "adapter.safetensors")
    assert metrics["trainable_parameters"] == sum(value.numel() for value in state.values())
    described = read_json(tmp_path / "adapter_config.json")
    assert described["peft_type"] == "MORA"
    assert described["layers_to_transform"] == {"image": [2, 3], "text": [1, 2]}
    assert len(list((tmp_path / "missing_tables").glob("colors_*_missing_both_ratio0.5_both0.5_seed0.npy"))) == 3
    assert not (tmp_path / "checkpoints").exists()


def test_a_loaded_run_has_the_trained_weights(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    trained = fit(config, load_data(config), tmp_path)

    loaded = load_trained(tmp_path)

    for name, value in trained.model.state_dict().items():
        assert value.equal(loaded.model.state_dict()[name]), name


def test_the_same_seed_gives_the_same_adapter(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    data = load_data(config)

    states = [fit(config, data, tmp_path / name).model.state_dict() for name in ("a", "b")]

    assert all(states[0][name].equal(states[1][name]) for name in states[0])
    scores = [read_json(tmp_path / name / "metrics.json")["test"] for name in ("a", "b")]
    assert scores[0] == scores[1]


def test_a_killed_run_goes_on_and_ends_as_if_never_killed(
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

    resumed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert resumed.returncode == 0, resumed.stderr
    config = make_config(train=train)
    whole = fit(config, load_data(config), tmp_path / "whole")
    state = load_file(tmp_path / "killed" / "adapter.safetensors")
    for name, value in whole.model.state_dict().items():
        assert value.allclose(state[name], rtol=0, atol=1e-6), name
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "nothing to train" in again.stdout


def test_a_run_folder_of_another_configuration_or_other_data_is_not_reused(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    data = load_data(config)
    run = tmp_path / "run"
    open_run(run, config, data)
    open_run(run, config, data)
    open_run(run, make_config(export={"precisions": [], "accuracy_budget": 2}), data)  # that is no part of the training

    with pytest.raises(RunError, match=r"other config \(mora\.rank was \d+, now 2\)"):
        open_run(run, make_config(mora={"rank": 2}), data)
    fewer = dataclasses.replace(data, train=Split("train", "made", data.train.items[1:]))
    with pytest.raises(RunError, match="other data"):
        open_run(run, config, fewer)


def test_nothing_but_a_run_is_ever_overwritten(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(RunError, match="not a run"):
        discard(tmp_path)
    with pytest.raises(RunError, match="something else than a run"):
        open_run(tmp_path, config, load_data(config))

    assert (tmp_path / "thesis.txt").exists()
    open_run(tmp_path / "run", config, load_data(config))
    discard(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_moved_is_evaluated_on_data_that_moved(
    config_file: Callable[..., Path], make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    fit(config, load_data(config), tmp_path / "first")
    before = read_json(tmp_path / "first" / "metrics.json")
    moved = tmp_path / "elsewhere"
    (tmp_path / "first").rename(moved)
    parquets = [Path(getattr(config.data, name)) for name in ("train", "validation", "test")]
    copies = [shutil.copy(path, tmp_path / path.name) for path in parquets]
    flags = [
        part
        for name, path in zip(("train", "validation", "test"), copies, strict=True)
        for part in (f"--data.{name}", str(path))
    ]

    result = CliRunner().invoke(app, ["evaluate", str(moved), *flags])

    assert result.exit_code == 0, result.output
    assert read_json(moved / "metrics.json")["test"] == before["test"]


def test_a_damaged_run_is_named(make_config: Make, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")

    with pytest.raises(RunError, match="train it again"):
        load_trained(tmp_path)


def test_a_checkpoint_cut_short_is_passed_over(tmp_path: Path) -> None:
    for step, state in ((3, "{}"), (10, '{"epo')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in ("model.safetensors", "optimizer.pt", "scheduler.pt"):
            (folder / name).write_bytes(b"")
        (folder / "trainer_state.json").write_text(state)

    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-3")
    assert not (tmp_path / "checkpoint-10").exists()


def test_broken_metrics_are_named(tmp_path: Path) -> None:
    for content in (json.dumps({})[:1], "[]"):
        (tmp_path / "metrics.json").write_text(content)
        with pytest.raises(RunError, match=r"metrics\.json cannot be read .* --overwrite"):
            read_json(tmp_path / "metrics.json")


def test_two_processes_have_the_losses_of_one(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """torchrun with gloo; the 24 items make whole batches, and without dropout nothing else is drawn in a process."""
    train = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, "modality_dropout": 0.5, "distillation": 0.5}
    path = config_file(train=train, mora={"dropout": 0.0, "parametrization": "identity"})
    histories = {}
    for processes in (1, 2):
        run = tmp_path / str(processes)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command += ["-m", "training.cli", "fit", str(path), "--output", str(run)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("│ overall ") == 1  # one process prints
        histories[processes] = json.loads((run / "history.json").read_text())

    states = [load_file(tmp_path / str(processes) / "adapter.safetensors") for processes in (1, 2)]
    for name, value in states[0].items():
        assert value.allclose(states[1][name], rtol=0, atol=1e-4), name
    losses = [[entry["loss"] for entry in found if "loss" in entry] for found in histories.values()]
    assert len(losses[0]) == 2
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_a_batch_that_processes_cannot_share_is_refused(make_config: Make, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")

    with pytest.raises(RunError, match="3 processes cannot share"):
        training_arguments(make_config(), tmp_path, "accuracy")


def test_mixed_precision_trains(make_config: Make, tmp_path: Path) -> None:
    config = make_config(train={"epochs": 1, "batch_size": 8, "precision": "bf16"})

    trained = fit(config, load_data(config), tmp_path / "run")

    assert {value.dtype for value in trained.model.state_dict().values()} == {torch.float32}
    assert read_json(tmp_path / "run" / "metrics.json")["test"]["overall"]["items"] == 12


def test_the_same_seed_gives_the_same_metrics_file_and_report(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    for name in ("a", "b"):
        fit(config, load_data(config), tmp_path / name)

    first, second = (read_json(tmp_path / name / "metrics.json") for name in ("a", "b"))

    assert first.pop("seconds") != {}
    second.pop("seconds")
    assert json.dumps(first) == json.dumps(second)
    assert (tmp_path / "a" / "report.html").stat().st_size > 10_000


def test_the_adapter_learns_at_a_share_of_the_heads_rate(make_config: Make, tmp_path: Path) -> None:
    train = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-2}
    states = {}
    for rate in (1e-9, 1.0):
        config = make_config(train={**train, "adapter_rate": rate, "weight_decay": 0.0})
        set_seed(0)
        start = build(config, 3)[0].state_dict()
        start = {name: value.clone() for name, value in start.items()}
        moved = fit(config, load_data(config), tmp_path / str(rate)).model.state_dict()
        states[rate] = {name: float((value - start[name]).abs().max()) for name, value in moved.items()}

    assert all((change < 1e-6) is not name.startswith("head.") for name, change in states[1e-9].items())
    assert min(states[1.0].values()) > 1e-4
