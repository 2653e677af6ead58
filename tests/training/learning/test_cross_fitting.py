"""A trained model is calibrated on answers to items that no training of theirs has seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_store import Pattern
from training.config import TaskConfig
from training.data.missing import Lacks, draw_tables
from training.data.splits import TaskData, load_data
from training.errors import DivergedError
from training.learning import cross_fitting
from training.learning.batches import Collator, RawInputs
from training.learning.candidate import Candidate, adapted
from training.learning.cross_fitting import cross_fitted
from training.learning.runs import build
from training.learning.training_setup import training_arguments

Make = Callable[..., TaskConfig]
HISTORY = [{"epoch": 1.0, "loss": 2.0}, {"epoch": 1.0, "eval_selection": -0.4}, {"epoch": 2.0, "eval_selection": -0.5}]
LACKS = {
    Pattern.BOTH: [Lacks.NOTHING],
    Pattern.IMAGE: [Lacks.NOTHING, Lacks.TEXT],
    Pattern.TEXT: [Lacks.NOTHING, Lacks.IMAGE],
}


@dataclass
class Trained:
    """A candidate, and `cross_fit()` with the notes to the user."""

    data: TaskData
    candidate: Candidate
    cross_fit: Callable[[], Candidate]
    notes: list[str]


@pytest.fixture
def trained_of(make_config: Make, tmp_path: Path) -> Callable[..., Trained]:
    def make(items: int = 24, **fields: Any) -> Trained:
        config = make_config(**fields)
        data = load_data(config)
        data = replace(data, train=replace(data.train, items=data.train.items[:items]))
        tables, (model, preprocessor) = draw_tables(config, data), build(config, len(data.labels))
        collator = Collator(RawInputs(preprocessor), data.labels, config.problem)
        candidate = adapted(config, model, data, tables, collator)
        arguments, notes = training_arguments(config, items, tmp_path / "checkpoints"), list[str]()

        def cross_fit() -> Candidate:
            return cross_fitted(candidate, data, tables, tmp_path, collator, arguments, HISTORY, notes.append)

        return Trained(data, candidate, cross_fit, notes)

    return make


@pytest.mark.parametrize("fields", [{"missing": {}}, {"problem": "multi_label"}], ids=str)
@pytest.mark.slow
def test_every_training_item_is_answered_once_beside_validation(
    trained_of: Callable[..., Trained], fields: dict[str, Any]
) -> None:
    trained = trained_of(**fields)
    before = {name: value.clone() for name, value in trained.candidate.model.state_dict().items()}

    first = trained.cross_fit()
    torch.rand(7)  # other random numbers come before, as after a resumed training
    again = trained.cross_fit()

    table = draw_tables(trained.candidate.config, trained.data)["train"]
    for pattern, lacks in LACKS.items():
        held_out, more = trained.candidate.held_out[pattern], first.held_out[pattern]
        assert len(more.item) == len(held_out.item) + np.isin(table, lacks).sum()
        assert more.logits[: len(held_out.item)].equal(held_out.logits)
        assert again.held_out[pattern].logits.equal(more.logits)
    assert all(value.equal(before[name]) for name, value in first.model.state_dict().items())


@pytest.mark.parametrize("items", [24, 10, 5])
@pytest.mark.slow
def test_no_item_trains_the_model_that_answers_it(
    trained_of: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch, items: int
) -> None:
    seen: list[tuple[set[int], set[int], int]] = []

    def train_epochs(*arguments: Any) -> None:
        part, epochs = arguments[3], arguments[-1]
        seen.append(({item.row for item in part.train.items}, {item.row for item in part.test.items}, epochs))

    monkeypatch.setattr(cross_fitting, "train_epochs", train_epochs)
    trained = trained_of(items)

    trained.cross_fit()

    rows = {item.row for item in trained.data.train.items}
    assert all(train | answered == rows and not train & answered for train, answered, _ in seen)
    assert sorted(row for _, answered, _ in seen for row in answered) == sorted(rows)
    assert {epochs for *_, epochs in seen} == {1}  # the kept one of HISTORY


def test_many_items_or_too_few_are_calibrated_on_validation_alone(
    trained_of: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = trained_of(2), trained_of()
    monkeypatch.setattr(cross_fitting, "MOST_ITEMS", 23)

    for trained in (few, many):
        assert trained.cross_fit() is trained.candidate
        assert trained.notes == []


@pytest.mark.slow
def test_a_part_that_diverges_is_named_and_the_model_is_kept(
    trained_of: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(*_: object) -> None:
        raise DivergedError("training diverged in epoch 3")

    monkeypatch.setattr(cross_fitting, "train_epochs", diverges)
    trained = trained_of()

    assert trained.cross_fit() is trained.candidate
    assert "is calibrated on the validation split alone" in trained.notes[-1]
    assert "training diverged in epoch 3" in trained.notes[-1]
