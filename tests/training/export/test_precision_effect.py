"""The expected loss of a precision: small errors are harmless on any number of items, large ones are found on few."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model_store import Calibration
from training.export.precision_effect import precision_effect, score_change
from training.learning.calibration import Answers

BUDGET = 0.5
THRESHOLDS = (0.5, 0.3, 0.7, 0.4)


def answers(items: int, seed: int, spread: float = 1.5, is_multi: bool = False) -> Answers:
    """Logits of four labels, and labels as probable as the logits say."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(items, 4, generator=generator) * spread
    if is_multi:
        targets = torch.bernoulli(logits.sigmoid(), generator=generator)
    else:
        targets = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(1)
    return Answers(logits, targets, torch.arange(items))


def noisy(logits: Tensor, error: float, seed: int = 99) -> Tensor:
    return logits + torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed)) * error


def shifted(logits: Tensor, error: float) -> Tensor:
    """Towards one label."""
    return logits + torch.tensor([error, 0, 0, 0])


def broken(logits: Tensor, share: float) -> Tensor:
    """The first items get the logits of others, as if a kernel failed on them; the rest is as it was."""
    count = max(1, int(len(logits) * share))
    return torch.cat([logits[:count].roll(1, dims=1), logits[count:]])


@pytest.mark.parametrize("items", [20, 60, 400, 1000])
@pytest.mark.parametrize("is_multi", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_small_error_is_within_the_budget_whatever_the_number_of_items(items: int, is_multi: bool, seed: int) -> None:
    reference = answers(items, seed, is_multi=is_multi)
    calibration = Calibration(thresholds=THRESHOLDS if is_multi else None)

    effect = precision_effect(reference, noisy(reference.logits, 0.03, seed), calibration)

    assert 0 <= effect.expected_loss <= effect.expected_loss_interval[1] < BUDGET
    assert effect.items == items
    assert effect.mean_logit_error == pytest.approx(0.03 * 0.8, rel=0.3)


@pytest.mark.parametrize("items", [20, 60, 400])
@pytest.mark.parametrize("is_multi", [False, True])
@pytest.mark.parametrize(
    ("change", "size"), [(noisy, 1.0), (noisy, 3.0), (shifted, 1.0), (shifted, -2.0), (broken, 0.1)]
)
def test_a_large_error_is_above_the_budget_on_few_items_too(
    items: int, is_multi: bool, change: Callable[[Tensor, float], Tensor], size: float
) -> None:
    reference = answers(items, 1, is_multi=is_multi)
    calibration = Calibration(thresholds=THRESHOLDS if is_multi else None)

    effect = precision_effect(reference, change(reference.logits, size), calibration)

    assert effect.expected_loss_interval[1] > BUDGET
    assert effect.changed_answers > 0


def test_one_changed_answer_near_a_tie_does_not_decide() -> None:
    """Of 20 items, one answer is another one: five points of accuracy by count, next to nothing by its margin."""
    reference = answers(20, 0, spread=4)
    reference.logits[0] = torch.tensor([2.0, 1.99, -3.0, -3.0])
    reference.targets[0] = 0
    candidate = noisy(reference.logits, 0.01)
    candidate[0] = torch.tensor([1.99, 2.0, -3.0, -3.0])

    effect = precision_effect(reference, candidate, Calibration())
    change = score_change(reference, candidate, Calibration())

    assert effect.changed_answers == 1
    assert effect.expected_loss_interval[1] < BUDGET
    assert change.mean == pytest.approx(-0.05)
    assert change.low < 0 < change.high


@pytest.mark.parametrize("is_multi", [False, True])
@pytest.mark.parametrize("error", [0.1, 0.3, 1.0])
def test_the_expected_loss_is_about_the_true_one(error: float, is_multi: bool) -> None:
    """On labels that follow the probabilities. It errs to the safe side."""
    reference = answers(100_000, 3, is_multi=is_multi)
    calibration = Calibration(thresholds=(0.5,) * 4 if is_multi else None)
    candidate = noisy(reference.logits, error)

    loss = precision_effect(reference, candidate, calibration).expected_loss

    lost = -100 * score_change(reference, candidate, calibration).mean
    assert lost - 0.2 < loss < 4 * max(lost, 0) + 0.5


@pytest.mark.parametrize("seed", range(3))
def test_equal_logits_change_nothing(seed: int) -> None:
    reference = answers(30, seed)
    reference.logits[:3] = 0  # ties

    effect = precision_effect(reference, reference.logits.clone(), Calibration())

    assert (effect.changed_answers, effect.mean_logit_error, effect.expected_loss) == (0, 0, 0)
    assert effect.expected_loss_interval == (0, 0)


@pytest.mark.parametrize("temperature", [0.25, 2.0, 8.0])
def test_the_calibration_decides_what_a_margin_is_worth(temperature: float) -> None:
    """Logits and their error that are both scaled as the temperature have the same effect."""
    reference = answers(80, 5)
    candidate = noisy(reference.logits, 0.5)
    scaled = Answers(reference.logits * temperature, reference.targets, reference.item)

    effect = precision_effect(scaled, candidate * temperature, Calibration(temperature=temperature))

    assert effect.expected_loss == pytest.approx(precision_effect(reference, candidate, Calibration()).expected_loss)


@pytest.mark.parametrize(
    ("row", "label", "logit", "change"),
    [(1, 0, -1.0, 2 / 3 - 1), (0, 1, 1.0, 2 / 3 - 1), (2, 1, -1.0, -1.0), (3, 0, 1.0, -1.0), (1, 0, 1.0, 0.0)],
)
def test_a_multi_label_answer_is_as_right_as_its_f1(row: int, label: int, logit: float, change: float) -> None:
    logits = torch.tensor([[2.0, -2.0], [2.0, 2.0], [-2.0, 2.0], [-2.0, -2.0]])
    reference = Answers(logits, (logits > 0).int(), torch.arange(4))
    candidate = logits.clone()
    candidate[row, label] = logit
    calibration = Calibration(thresholds=(0.5, 0.5))

    assert score_change(reference, candidate, calibration).mean == pytest.approx(change / 4)
    assert precision_effect(reference, candidate, calibration).changed_answers == (change != 0)
