"""The Trainer's settings: learning rates, decay, processes, precision, the cache of frozen layers.

Covers training.learning.processes, training.learning.training_setup.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import set_seed

from tests.support.sampling import each
from training.config import TaskConfig
from training.data.splits import load_data
from training.errors import DivergedError, RunError
from training.learning.batches import Collator, RawInputs
from training.learning.processes import is_main_process
from training.learning.run_folder import read_json
from training.learning.runs import build
from training.learning.trainer import AdapterTrainer, kept_epoch
from training.learning.training_setup import collator_for, schedule, training_arguments
from training.learning.trunk_outputs import TrunkOutputs
from training.model.objective import Objective
from training.pipeline.fit import fit

Make = Callable[..., TaskConfig]


def trainer_of(config: TaskConfig, folder: Path) -> AdapterTrainer:
    data = load_data(config)
    model, preprocessor = build(config, len(data.labels))
    arguments = training_arguments(config, 24, folder)
    collator = Collator(RawInputs(preprocessor), data.labels, config.problem)
    return AdapterTrainer(config, model=model, args=arguments, data_collator=collator, eval_dataset=[])


@pytest.mark.parametrize(("parametrization", "all_decay"), [("official", True), ("identity", False)])
def test_official_mora_decays_everything_and_other_methods_spare_magnitudes_gates_and_biases(
    make_config: Make, tmp_path: Path, parametrization: str, all_decay: bool
) -> None:
    trainer = trainer_of(make_config(mora={"parametrization": parametrization}), tmp_path)

    names = set(trainer.get_decay_parameter_names(trainer.model))

    trained = set(trainer.model.state_dict())
    spared = {name for name in trained if any(part in name for part in ("magnitude", "gate", "bias"))}
    assert spared
    assert trained & names == (trained if all_decay else trained - spared)


def test_the_head_and_the_adapter_have_groups_with_a_rate_and_a_decay_each(make_config: Make, tmp_path: Path) -> None:
    train = {"batch_size": 8, "learning_rate": 0.5, "adapter_rate": 0.1, "weight_decay": 0.25}
    trainer = trainer_of(make_config(train=train), tmp_path)

    groups = trainer.create_optimizer().param_groups

    names = {id(value): name for name, value in trainer.model.named_parameters()}
    settings = {}
    for group in groups:
        for value in group["params"]:
            settings[names[id(value)]] = (group["lr"], group["weight_decay"])
    assert settings.keys() == trainer.model.state_dict().keys()
    assert settings["head.weight"] == (0.5, 0.25)
    assert settings["head.bias"] == (0.5, 0.0)
    assert {rate for name, (rate, _) in settings.items() if not name.startswith("head.")} == {0.05}
    assert {decay for name, (_, decay) in settings.items() if "magnitude" in name} == {0.0}


def test_the_seconds_go_on_from_a_checkpoints_log(make_config: Make, tmp_path: Path) -> None:
    trainer = trainer_of(make_config(), tmp_path)
    trainer.state.log_history = [{"seconds": 100.0}]

    trainer.log({"loss": 1.0})

    assert trainer.state.log_history[-1]["seconds"] >= 100.0


@pytest.mark.parametrize(("rank", "is_main"), [(None, True), ("0", True), ("1", False)])
def test_the_first_process_of_torchrun_writes(monkeypatch: pytest.MonkeyPatch, rank: str | None, is_main: bool) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)

    assert is_main_process() is is_main


@pytest.mark.parametrize(
    ("method", "cache_trunk", "is_cached"), [("mora", True, True), ("mora", False, False), ("full", True, False)]
)
def test_the_frozen_layers_are_cached_if_they_are_frozen_and_it_is_configured(
    make_config: Make, tmp_path: Path, method: str, cache_trunk: bool, is_cached: bool
) -> None:
    config = make_config(method=method, train={"cache_trunk": cache_trunk})
    data = load_data(config)
    model, preprocessor = build(config, len(data.labels))

    collator = collator_for(model, preprocessor, config, data, tmp_path, lambda _: None)

    assert isinstance(collator.inputs, TrunkOutputs) is is_cached


def test_a_batch_that_processes_cannot_share_is_refused(make_config: Make, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")

    with pytest.raises(RunError, match="3 processes cannot share"):
        training_arguments(make_config(), 24, tmp_path)


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


def test_mixed_precision_trains(make_config: Make, tmp_path: Path) -> None:
    config = make_config(train={"epochs": 1, "batch_size": 8, "precision": "bf16"})

    trained = fit(config, load_data(config), tmp_path / "run")

    assert {value.dtype for value in trained.model.state_dict().values()} == {torch.float32}
    assert read_json(tmp_path / "run" / "metrics.json")["test"]["overall"]["items"] == 12


@pytest.mark.parametrize(
    ("method", "rate", "problem"),
    [
        ("mora", 1e20, "epoch 1, step 3 of 6: the loss is nan"),
        ("full", 1e6, "epoch 1, step 3 of 6: the norm of the gradients is nan"),
        ("head", 1e20, "epoch 1, step 3 of 6: the logits of the validation split are not finite"),
    ],
)
@pytest.mark.slow
def test_a_diverging_training_ends_with_the_epoch_and_the_cure(
    make_config: Make, tmp_path: Path, method: str, rate: float, problem: str
) -> None:
    train = {"epochs": 2, "batch_size": 8, "learning_rate": rate, "adapter_rate": 0.1}
    config = make_config(method=method, train=train)

    with pytest.raises(DivergedError, match=f"diverged in {problem}; lower train.learning_rate .it is") as raised:
        fit(config, load_data(config), tmp_path / "run")

    assert "fp32" not in str(raised.value)
    assert not list((tmp_path / "run").rglob("checkpoint-*"))
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("value", "step", "epoch"), each([(math.nan, 4, 2), (math.inf, 5, 2), (math.nan, 7, 3)], tried=[(math.nan, 7, 3)])
)
@pytest.mark.slow
def test_the_last_good_checkpoint_is_kept(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, step: int, epoch: int
) -> None:
    config = make_config(train={"epochs": 3, "batch_size": 8, "learning_rate": 1e-3, "precision": "bf16"})
    forward, steps = Objective.__call__, iter(range(1, 100))

    def diverging(self: Objective, logits: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        loss = forward(self, logits, *rest)
        return loss * value if logits.requires_grad and next(steps) == step else loss

    monkeypatch.setattr(Objective, "__call__", diverging)

    with pytest.raises(
        DivergedError, match=f"in epoch {epoch}, step {step} of 9.*set train.precision to fp32"
    ) as raised:
        fit(config, load_data(config), tmp_path / "run")

    checkpoint = tmp_path / "run" / "checkpoints" / f"checkpoint-{3 * (epoch - 1)}"
    assert f"the last good checkpoint stays in {checkpoint}" in str(raised.value)
    assert all(tensor.isfinite().all() for tensor in load_file(checkpoint / "model.safetensors").values())
    monkeypatch.undo()
    fit(config, load_data(config), tmp_path / "run")  # goes on from it
    assert read_json(tmp_path / "run" / "metrics.json")["test"]["overall"]["items"] == 12


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (56, (75, 16)),
        (70, (60, 16)),
        (385, (20, 16)),
        (2000, (20, 128)),
        (60_000, (20, 256)),
    ],
)
def test_a_small_training_split_gets_enough_steps(make_config: Make, items: int, expected: tuple[int, int]) -> None:
    epochs, batch_size = schedule(make_config(train={}), items)

    assert (epochs, batch_size) == expected
    assert epochs * math.ceil(items / batch_size) >= 300


@pytest.mark.parametrize(
    ("patience", "epochs", "trained"),
    each([(0.25, 8, 3), (0.5, 8, 5), (0.01, 8, 2), (None, 8, 8), (0.9, 1, 1)], tried=[(0.25, 8, 3), (None, 8, 8)]),
)
@pytest.mark.slow
def test_training_ends_after_epochs_without_a_better_score(
    make_config: Make, tmp_path: Path, patience: float | None, epochs: int, trained: int
) -> None:
    """At this rate nothing changes, so the first epoch is the best."""
    train = {"epochs": epochs, "batch_size": 24, "learning_rate": 1e-20, "patience": patience}
    config = make_config(method="head", train=train)

    fit(config, load_data(config), tmp_path / "run")

    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [entry["epoch"] for entry in history if "eval_selection" in entry] == [*range(1, trained + 1)]


@pytest.mark.parametrize(
    ("task", "last_call"),
    [
        ("make_config", "training.learning.trainer.AdapterTrainer._finalize_training"),
        ("retrieval_config", "training.pipeline.fit_retrieval.report_html"),
    ],
)
@pytest.mark.parametrize(("patience", "epochs"), [(None, 6), (0.1, 2)])
@pytest.mark.slow
def test_a_moved_run_that_was_killed_after_its_last_epoch_ends_like_one_that_was_not_killed(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    last_call: str,
    patience: float | None,
    epochs: int,
) -> None:
    """The first epoch is kept, because the highest loss counts as the best."""
    monkeypatch.setattr("training.learning.trainer.selection_score", lambda scores, _: scores["log_loss"])
    train = {"epochs": 6, "batch_size": 8, "learning_rate": 0.5, "patience": patience}
    config = request.getfixturevalue(task)(method="head", train=train)
    data = load_data(config)
    whole = fit(config, data, tmp_path / "whole", lambda _: None).model.state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(last_call, killed)
        with pytest.raises(KeyboardInterrupt):
            fit(config, data, tmp_path / "run", lambda _: None)
    (tmp_path / "run").rename(tmp_path / "moved")

    resumed = fit(config, data, tmp_path / "moved", lambda _: None).model.state_dict()

    assert all(value.equal(resumed[name]) for name, value in whole.items())
    assert without_times(tmp_path / "moved" / "metrics.json") == without_times(tmp_path / "whole" / "metrics.json")
    history = without_times(tmp_path / "moved" / "history.json")
    assert history == without_times(tmp_path / "whole" / "history.json")
    assert (kept_epoch(history), history[-1]["epoch"]) == (1, epochs)


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def without_times(path: Path) -> Any:
    """The content of a JSON file without seconds and rates."""

    def is_time(name: str) -> bool:
        return name == "seconds" or name.endswith(("_runtime", "_per_second"))

    return json.loads(
        path.read_text(), object_hook=lambda fields: {name: fields[name] for name in fields if not is_time(name)}
    )


def test_given_epochs_and_batches_are_kept(make_config: Make) -> None:
    assert schedule(make_config(train={"epochs": 3, "batch_size": 256}), 56) == (3, 256)
    assert schedule(make_config(train={"epochs": 3}), 56) == (3, 16)
    assert schedule(make_config(train={"batch_size": 64}), 56) == (300, 64)


@pytest.mark.parametrize(
    ("losses", "selections", "diverged"),
    [([0.5, 99.0], [2.0, 1.0], False), ([99.0, 50.0], [1.0, 2.0], True), ([11.0], [0.0], False), ([12.0], [0.0], True)],
)
def test_a_kept_epoch_far_above_chance_is_divergence(
    make_config: Make, tmp_path: Path, losses: list[float], selections: list[float], diverged: bool
) -> None:
    trainer = trainer_of(make_config(train={"epochs": 2, "batch_size": 8, "learning_rate": 5.0}), tmp_path)
    trainer.state.max_steps = 6
    trainer.state.log_history = [
        {"eval_log_loss": loss, "eval_selection": selection, "step": 3 * (number + 1)}
        for number, (loss, selection) in enumerate(zip(losses, selections, strict=True))
    ]

    if not diverged:
        trainer.check_kept_epoch(1.15)
        return
    with pytest.raises(DivergedError, match=rf"diverged in epoch {len(losses)}, .* lower train.learning_rate .it is 5"):
        trainer.check_kept_epoch(1.15)
