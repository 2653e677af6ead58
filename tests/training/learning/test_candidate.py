"""The choice between the linear probe and the trained model, and both candidates made from a real backbone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model_store import Pattern, Problem
from training.config import TaskConfig
from training.data.missing import draw_tables
from training.data.splits import load_data
from training.learning.batches import Collator, RawInputs
from training.learning.candidate import Candidate, Choice, adapted, calibratable, choose, probed
from training.learning.encoded_split import EncodedSplit
from training.learning.gain import Gain
from training.learning.runs import build
from training.model.classifier import MissingModalityClassifier

Make = Callable[..., TaskConfig]


class Head(torch.nn.Module):
    """Stands in for a model: only its head is used."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.head = torch.nn.Linear(2, 2, bias=False)
        self.head.weight.data = torch.tensor([[weight, 0.0], [-weight, 0.0]])


def candidate(make_config: Make, weight: float, right: int, wrong: int) -> Candidate:
    """Answers a validation split of two labels: the image feature has the true label's sign in `right` items."""
    sign = torch.tensor([1.0] * right + [-1.0] * wrong)
    targets = torch.zeros(right + wrong, dtype=torch.long)
    zero = torch.zeros(1)
    split = EncodedSplit(sign.unsqueeze(1), sign.unsqueeze(1), zero, zero, targets, np.zeros(len(sign), dtype=np.int8))
    model: MissingModalityClassifier = Head(weight)  # type: ignore[assignment]
    return Candidate(make_config(), model, {"validation": split}, split.by_pattern(model.head, split.natural))


def answering(make_config: Make, patterns: list[Pattern], *answers: float) -> Candidate:
    """The candidate, whose held-out answers are to items of these patterns."""
    made = candidate(make_config, answers[0], *map(int, answers[1:]))
    return replace(made, held_out={pattern: made.held_out[pattern] for pattern in patterns})


@pytest.mark.parametrize(
    ("probe", "trained", "wins"),
    [
        ((30, 10), (38, 2), True),
        ((30, 10), (30, 10), False),
        ((38, 2), (30, 10), False),
        ((3, 1), (4, 0), False),  # four items do not show that the trained model is better
    ],
)
def test_the_trained_model_is_kept_only_if_it_is_clearly_better(
    make_config: Make, probe: tuple[int, int], trained: tuple[int, int], wins: bool
) -> None:
    candidates = [candidate(make_config, 1.0, *counts) for counts in (probe, trained)]

    choice = choose(*candidates, candidates[0].encoded["validation"].natural)

    assert choice.best is candidates[wins]
    assert choice.summary()["result"] == ("mora" if wins else "the linear probe")
    assert choice.gain is not None
    assert (choice.gain.mean > 0) is (trained[0] > probe[0])


@pytest.mark.parametrize(
    ("method", "trained", "reason"),
    [
        ("mora", (38, 2), "mora is the result: on validation the log loss of mora is 0.* lower .standard error 0."),
        (
            "lora",
            (33, 7),
            "the linear probe is the result: on validation the log loss of lora is 0.* lower, which is not clear",
        ),
        ("head", (20, 20), "the linear probe is the result: on validation the log loss of head is 0.* higher$"),
    ],
)
def test_the_choice_names_the_result_and_the_reason(
    make_config: Make, method: str, trained: tuple[int, int], reason: str
) -> None:
    probe = candidate(make_config, 1.0, 30, 10)
    other = replace(candidate(make_config, 1.0, *trained), config=make_config(method=method))

    assert re.match(reason, str(choose(probe, other, probe.encoded["validation"].natural)))


def test_overconfidence_alone_does_not_lose_because_temperatures_mend_it(make_config: Make) -> None:
    probe, trained = candidate(make_config, 0.2, 60, 20), candidate(make_config, 20.0, 78, 2)

    assert choose(probe, trained, trained.encoded["validation"].natural).best is trained


def test_a_negligible_gain_is_no_reason_for_an_adapter(make_config: Make) -> None:
    probe, trained = candidate(make_config, 3.2, 40, 0), candidate(make_config, 5.0, 40, 0)

    choice = choose(probe, trained, trained.encoded["validation"].natural)

    assert choice.gain is not None
    assert 0 < choice.gain.mean < 0.002
    assert Choice(probe, trained, Gain(0.0009, 0.0)).best is probe
    assert Choice(probe, trained, Gain(0.0011, 0.0)).best is trained


def test_one_item_never_decides_for_the_trained_model(make_config: Make) -> None:
    probe, trained = candidate(make_config, 1.0, 0, 1), candidate(make_config, 1.0, 1, 0)

    choice = choose(probe, trained, trained.encoded["validation"].natural)

    assert choice.best is probe
    assert choice.summary()["standard_error"] is None


def test_a_probe_whose_held_out_answers_are_certain_and_right_leaves_nothing_to_train(make_config: Make) -> None:
    complete = [Pattern.BOTH]
    assert answering(make_config, complete, 20.0, 40, 0).is_perfect
    assert not answering(make_config, complete, 1.0, 40, 0).is_perfect  # right, but not certain
    assert not answering(make_config, complete, 20.0, 39, 1).is_perfect
    assert not answering(make_config, [], 20.0, 40, 0).is_perfect

    choice = Choice(answering(make_config, complete, 20.0, 40, 0), None)

    assert choice.best is choice.probe
    assert choice.summary() == {"result": "the linear probe", "log_loss_gain": None, "standard_error": None}
    assert str(choice).startswith("the linear probe is the result: its log loss on held-out items is below 0.001")


def test_one_pattern_with_errors_is_something_to_train_for(make_config: Make) -> None:
    assert answering(make_config, [Pattern.BOTH, Pattern.IMAGE], 20.0, 40, 0).is_perfect
    assert not answering(make_config, [*Pattern], 20.0, 40, 0).is_perfect  # the texts tell nothing


@pytest.mark.parametrize("problem", [Problem.SINGLE_LABEL, Problem.MULTI_LABEL])
@pytest.mark.slow
def test_the_probe_is_a_head_on_the_frozen_backbone(make_config: Make, tmp_path: Path, problem: Problem) -> None:
    config = make_config(problem=problem.value)
    data = load_data(config)
    model, preprocessor = build(config, len(data.labels))
    collator = Collator(RawInputs(preprocessor), data.labels, config.problem)
    tables = draw_tables(config, data)

    probe = probed(config, data, tables, tmp_path, collator, (model.image_split, model.text_split))
    trained = adapted(config, model, data, tables, collator)

    assert (probe.config.method, trained.config.method) == ("head", "mora")
    assert probe.model.trainable_parameters() == sum(value.numel() for value in probe.model.head.parameters())
    assert len(probe.held_out[Pattern.BOTH].item) > len(trained.held_out[Pattern.BOTH].item)  # also of train
    for name in ("validation", "test"):  # the adapter begins at the frozen backbone
        torch.testing.assert_close(probe.encoded[name].image, trained.encoded[name].image)
    again, _ = build(probe.config, len(data.labels))
    again.load_state_dict(probe.model.state_dict())
    features = replace(probe.encoded["test"]).features(tables["test"])
    torch.testing.assert_close(again.head(features), probe.model.head(features))


@pytest.mark.parametrize("problem", [Problem.SINGLE_LABEL, Problem.MULTI_LABEL])
@pytest.mark.slow
def test_after_training_with_class_weights_thresholds_or_temperatures_are_fitted(
    make_config: Make, tmp_path: Path, problem: Problem
) -> None:
    config = make_config(problem=problem.value)
    data = load_data(config)
    model, preprocessor = build(config, len(data.labels))
    collator = Collator(RawInputs(preprocessor), data.labels, config.problem)
    trained = adapted(config, model, data, draw_tables(config, data), collator)
    before = model.head.bias.detach().clone()

    weighted = calibratable(trained, torch.tensor([1.0, 4.0, 9.0]))

    assert calibratable(trained, None) is trained
    assert (weighted is trained) is (problem is Problem.SINGLE_LABEL)
    if problem is Problem.MULTI_LABEL:
        shift = before - model.head.bias
        for pattern in Pattern:
            expected = trained.held_out[pattern].logits - shift
            torch.testing.assert_close(weighted.held_out[pattern].logits, expected)
