"""`mora: auto`: which adapters are trained, which one is kept, and what the run says about it.

Covers training.pipeline.trainings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from training.cli import app
from training.config import TaskConfig, load_config
from training.data.splits import load_data
from training.errors import ConfigError, DivergedError
from training.learning.candidate import Choice
from training.learning.run_folder import read_json
from training.learning.runs import load_trained
from training.pipeline import trainings
from training.pipeline.auto import candidates
from training.pipeline.fit import fit
from training.pipeline.reopen import reopen

Make = Callable[..., TaskConfig]
ALL_MODULES = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
NAMES = ["as configured", "every projection", "every layer", "every projection of every layer"]
TRAIN = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3}


def names_of(folder: Path) -> list[str]:
    return [each["name"] for each in read_json(folder / "metrics.json")["auto"]["candidates"]]


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The validation log loss of every item, by the candidate's projections and layers; 1 by default."""
    of_candidate: dict[str, float] = {}

    def constant(candidate: Any, table: Any) -> torch.Tensor:
        mora = candidate.config.mora
        words = ["every projection"] * (mora.target_modules == ALL_MODULES) + ["every layer"] * (mora.first_layer == 0)
        return torch.full((9,), of_candidate.get(" of ".join(words) or "as configured", 1.0))

    monkeypatch.setattr("training.pipeline.auto.validation_losses", constant)
    return of_candidate


def test_the_candidates_grow_and_none_is_trained_twice(make_config: Make) -> None:
    tried = candidates(make_config())

    assert [*tried] == NAMES
    assert [(each.mora.first_layer, each.mora.target_modules, each.mora.rank) for each in tried.values()] == [
        (None, ("q_proj", "v_proj"), 4),
        (None, ALL_MODULES, 4),
        (0, ("q_proj", "v_proj"), 4),
        (0, ALL_MODULES, 8),
    ]
    assert [*candidates(make_config(mora={"first_layer": 0}))] == [NAMES[0], NAMES[1], NAMES[3]]
    wide = {"first_layer": 0, "target_modules": ALL_MODULES, "rank": 3}
    assert [(name, each.mora.rank) for name, each in candidates(make_config(mora=wide)).items()] == [
        (NAMES[0], 3),
        (NAMES[3], 6),
    ]


@pytest.mark.slow
def test_if_the_configured_adapter_wins_the_run_is_that_of_the_written_configuration(
    make_config: Make, tmp_path: Path
) -> None:
    """With nine validation items and a tiny rate, no gain is clear."""
    train = {**TRAIN, "learning_rate": 1e-7}
    config, plain = make_config(mora="auto", train=train), make_config(train=train)
    data, notes = load_data(config), []

    chosen = fit(config, data, tmp_path / "auto", notes.append)
    written = fit(plain, data, tmp_path / "plain", notes.append)

    assert chosen.config == written.config == plain
    state = written.model.state_dict()
    assert all(value.equal(state[name]) for name, value in chosen.model.state_dict().items())
    auto = read_json(tmp_path / "auto" / "metrics.json").pop("auto")
    assert names_of(tmp_path / "auto") == NAMES[:3]  # the largest is left out
    assert (auto["chosen"], auto["metric"]) == ("as configured", "accuracy")
    assert all(math.isfinite(each["log_loss"]) for each in auto["candidates"])
    assert "auto" not in read_json(tmp_path / "plain" / "metrics.json")
    assert reopen(tmp_path / "auto", config, data).config == plain


@pytest.mark.slow
def test_a_training_in_which_larger_adapters_learn_more_keeps_the_largest(
    make_config: Make, divisible: dict[str, str], tmp_path: Path
) -> None:
    """Nothing is put in the place of the losses: the items of validation are trained on, and the head hardly moves."""
    train = {"epochs": 4, "batch_size": 8, "learning_rate": 1e-4, "adapter_rate": 30.0}
    mora = {"auto": True, "first_layer": 2, "target_modules": ["q_proj"], "rank": 1}
    data = {**divisible, "train": divisible["validation"]}
    config = make_config(mora=mora, train={**train, "modality_dropout": 0.0}, data=data, missing={})

    trained = fit(config, load_data(config), tmp_path, lambda _: None)

    auto = read_json(tmp_path / "metrics.json")["auto"]
    assert (auto["chosen"], names_of(tmp_path)) == (NAMES[3], NAMES)
    smallest, *_, largest = auto["candidates"]
    assert largest["log_loss"] < smallest["log_loss"]
    assert largest["log_loss_gain"] > 2 * largest["standard_error"] > 0
    assert (trained.config.mora.first_layer, trained.config.mora.target_modules, trained.config.mora.rank) == (
        0,
        ALL_MODULES,
        2,
    )


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.slow
def test_a_larger_adapter_that_is_clearly_better_is_kept_and_can_be_used(
    make_config: Make, tmp_path: Path, losses: dict[str, float], monkeypatch: pytest.MonkeyPatch, probe: bool
) -> None:
    monkeypatch.setattr(Choice, "best", property(lambda choice: choice.trained))
    losses |= {"every projection": 0.9, "every layer": 0.95, "every projection of every layer": 0.5}
    config = make_config(mora={"auto": True, "dropout": 0.2}, train={**TRAIN, "probe": probe})
    data = load_data(config)

    trained = fit(config, data, tmp_path / "run", lambda _: None)

    mora = trained.config.mora
    assert (mora.auto, mora.first_layer, mora.rank, mora.dropout) == (False, 0, 8, 0.2)
    assert mora.target_modules == ALL_MODULES
    metrics = read_json(tmp_path / "run" / "metrics.json")
    rows = {each["name"]: each for each in metrics["auto"]["candidates"]}
    assert [*rows] == NAMES
    assert metrics["auto"]["chosen"] == NAMES[3]
    assert [each.get("compared_with") for each in rows.values()] == [None, NAMES[0], NAMES[1], NAMES[1]]
    assert [each.get("log_loss_gain") for each in rows.values()] == [None, 0.1, -0.05, 0.4]
    assert [each["first_layers"] for each in rows.values()] == [{"image": 2, "text": 1}] * 2 + [
        {"image": 1, "text": 0}
    ] * 2  # of four and three layers
    assert [each["frozen_share"] for each in rows.values()] == [0.4286, 0.4286, 0.1429, 0.1429]
    assert [each["shares_trunk"] for each in rows.values()] == [True, True, False, False]
    parameters = [each["trainable_parameters"] for each in rows.values()]
    assert len(set(parameters)) == 4
    assert parameters[3] == max(parameters) == metrics["trainable_parameters"] == trained.model.trainable_parameters()
    assert metrics["seconds"]["train"] == pytest.approx(sum(each["seconds"] for each in rows.values()), abs=0.1)
    assert "Adapters that were compared" in (tmp_path / "run" / "report.html").read_text()
    loaded = load_trained(tmp_path / "run")
    assert loaded.config == trained.config
    assert (loaded.model.image_split, loaded.model.text_split) == (1, 0)
    described = read_json(tmp_path / "run" / "task.json")["task_config"]
    assert (described["mora"]["auto"], described["mora"]["first_layer"], described["mora"]["rank"]) == (False, 0, 8)


@pytest.mark.slow
def test_a_gain_that_is_not_clear_keeps_the_smaller_adapter(
    make_config: Make, tmp_path: Path, losses: dict[str, float]
) -> None:
    losses |= {"every projection": 0.9995, "every layer": 0.8}
    config = make_config(mora="auto", train=TRAIN)

    trained = fit(config, load_data(config), tmp_path, lambda _: None)

    auto = read_json(tmp_path / "metrics.json")["auto"]
    assert [each.get("compared_with") for each in auto["candidates"]] == [None, NAMES[0], NAMES[0], NAMES[2]]
    assert auto["chosen"] == "every layer"
    assert trained.config.mora == make_config(mora={"first_layer": 0}).mora


@pytest.mark.slow
def test_a_larger_adapter_whose_training_diverges_is_noted_and_not_kept(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(self: Any, config: TaskConfig, name: str) -> None:
        raise DivergedError("training diverged in epoch 1; lower it")

    monkeypatch.setattr(trainings.Trainings, "build_and_train", diverging)
    config, notes = make_config(mora="auto", train=TRAIN), []

    trained = fit(config, load_data(config), tmp_path, notes.append)

    assert trained.config.mora == make_config().mora
    assert [each["log_loss"] is None for each in read_json(tmp_path / "metrics.json")["auto"]["candidates"]] == [
        False,
        True,
        True,
    ]
    assert f"{NAMES[1]}: training diverged in epoch 1" in notes
    assert "diverged" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_a_killed_run_does_not_repeat_the_trainings_that_were_finished(
    make_config: Make, tmp_path: Path, losses: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses |= {"every projection": 0.9}
    config = make_config(mora="auto", train=TRAIN)
    data = load_data(config)
    whole = fit(config, data, tmp_path / "whole", lambda _: None)
    ran: list[TaskConfig] = []
    real = trainings.train

    def killed(model: Any, collator: Any, config: TaskConfig, *rest: Any) -> Any:
        ran.append(config)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return real(model, collator, config, *rest)

    monkeypatch.setattr(trainings, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(config, data, tmp_path / "killed", lambda _: None)
    resumed = fit(config, data, tmp_path / "killed", lambda _: None)

    assert len(ran) == 3 + 2  # the first two are not trained again
    assert resumed.config == whole.config
    state = resumed.model.state_dict()
    assert all(value.equal(state[name]) for name, value in whole.model.state_dict().items())
    assert not (tmp_path / "killed" / "checkpoints").exists()


@pytest.mark.slow
def test_the_command_prints_the_table_and_the_same_command_finds_the_run(make_config: Make, tmp_path: Path) -> None:
    values = make_config(train=TRAIN, method="lora").model_dump(mode="json")
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(values))
    line = ["fit", str(tmp_path / "task.yaml"), "--output", str(tmp_path / "run"), "--mora", "auto"]

    first = CliRunner().invoke(app, line, env={"COLUMNS": "200"})
    second = CliRunner().invoke(app, line, env={"COLUMNS": "200"})
    evaluated = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run")])
    searched = CliRunner().invoke(app, [*line, "--search", "5"])

    assert first.exit_code == 0, first.output
    assert "adapters, on validation" in first.output
    assert names_of(tmp_path / "run")[:3] == NAMES[:3]
    assert second.exit_code == 0, second.output
    assert "is finished; nothing to train" in " ".join(second.output.split())
    assert evaluated.exit_code == 0, evaluated.output
    assert searched.exit_code == 1
    assert "--search and mora.auto both choose the adapter" in searched.output


@pytest.mark.parametrize("method", ["head", "bitfit"])
@pytest.mark.slow
def test_a_method_without_projections_has_nothing_to_choose(make_config: Make, tmp_path: Path, method: str) -> None:
    config = make_config(mora="auto", method=method, train=TRAIN)

    fit(config, load_data(config), tmp_path, lambda _: None)

    assert "auto" not in read_json(tmp_path / "metrics.json")


def test_auto_in_a_file_is_a_field_of_mora(make_config: Make, tmp_path: Path) -> None:
    values = make_config().model_dump(mode="json")
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({**values, "mora": "auto"}))

    config = load_config(tmp_path / "task.yaml")

    assert config == make_config(mora={"auto": True})
    assert json.loads(config.model_dump_json())["mora"]["auto"] is True
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({**values, "mora": "best"}))
    with pytest.raises(ConfigError, match="mora: "):
        load_config(tmp_path / "task.yaml")


def test_a_retrieval_task_refuses_auto(retrieval_config: Make) -> None:
    with pytest.raises(ValueError, match=r"mora\.auto compares the log losses of labels"):
        retrieval_config(mora="auto")
