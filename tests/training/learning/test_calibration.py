"""Temperatures and thresholds: their fit on validation, and their limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from model_store import Pattern, Problem
from training.learning.calibration import Answers, calibrate, fit_temperatures, fit_thresholds, joined, reliability

SINGLE, MULTI = Problem.SINGLE_LABEL, Problem.MULTI_LABEL


def drawn(seed: int, items: int = 400, classes: int = 5, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels drawn with the probabilities of the logits divided by `temperature`."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(items, classes, generator=generator)
    return logits, torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator).squeeze(1)


def answers(logits: torch.Tensor, targets: torch.Tensor) -> Answers:
    return Answers(logits, targets, torch.arange(len(logits)))


def temperature_of(logits: torch.Tensor, targets: torch.Tensor, problem: Problem = SINGLE) -> float:
    """Of a task in which only the pattern `both` has items."""
    nothing = answers(logits[:0], targets[:0])
    temperatures = fit_temperatures({Pattern.BOTH: answers(logits, targets), Pattern.IMAGE: nothing}, problem)
    assert temperatures[Pattern.IMAGE] == 1.0
    return temperatures[Pattern.BOTH]


@given(seed=st.integers(0, 50), temperature=st.sampled_from([0.5, 1.0, 2.5]))
@settings(deadline=None, max_examples=10)
def test_with_many_items_the_temperature_is_the_one_that_made_the_labels(seed: int, temperature: float) -> None:
    logits, labels = drawn(seed, items=4000, temperature=temperature)

    assert temperature_of(logits, labels) == pytest.approx(temperature, rel=0.15)


@pytest.mark.parametrize("items", [2, 8, 20])
def test_few_items_leave_the_temperature_near_one(items: int) -> None:
    many = drawn(3, items=4000, temperature=4.0)

    few = temperature_of(*(values[:items] for values in many))

    assert 1 / 2 < few < temperature_of(*many) - 1


def test_a_pattern_with_few_items_follows_the_patterns_with_many() -> None:
    logits, labels = drawn(0, items=2000, temperature=3.0)
    few = answers(logits[:20], labels[:20])

    alone = fit_temperatures({Pattern.TEXT: few}, SINGLE)[Pattern.TEXT]
    together = fit_temperatures({Pattern.TEXT: few, Pattern.BOTH: answers(logits, labels)}, SINGLE)

    assert together[Pattern.BOTH] == pytest.approx(3.0, rel=0.15)
    assert abs(together[Pattern.TEXT] - 3.0) < abs(alone - 3.0)


@given(seed=st.integers(0, 200), items=st.integers(5, 60), temperature=st.sampled_from([0.5, 1.0, 2.0]))
@settings(deadline=None, max_examples=20)
def test_a_temperature_never_makes_its_own_data_less_likely(seed: int, items: int, temperature: float) -> None:
    logits, labels = drawn(seed, items=items, temperature=temperature)

    calibrated = logits.double() / temperature_of(logits, labels)

    assert functional.cross_entropy(calibrated, labels) <= functional.cross_entropy(logits.double(), labels)


def test_a_temperature_that_does_not_help_held_out_items_is_not_used() -> None:
    """The items of one fold want a low temperature and those of the others a high one."""
    logits = torch.tensor([[2.0, 0.0]]).repeat(40, 1)
    labels = (torch.arange(40) % 5 != 0).long()  # the first fold is right, the other four are wrong in all

    assert temperature_of(logits, labels) > 1.0
    assert temperature_of(logits, torch.tensor([0, 0, 0, 0, 1] * 8)) == 1.0  # as confident as it is right


@pytest.mark.parametrize("items", [10, 40, 200])
@pytest.mark.slow
def test_scores_that_are_right_are_seldom_changed(items: int) -> None:
    """Their labels are drawn from them, so a temperature could only fit noise."""
    temperatures = [temperature_of(*drawn(seed, items)) for seed in range(30)]

    assert sum(temperature != 1.0 for temperature in temperatures) <= 6
    assert all(0.4 < temperature < 2.5 for temperature in temperatures)


def test_without_items_scores_stay_unchanged() -> None:
    nothing = {pattern: answers(torch.zeros(0, 3), torch.zeros(0, 3)) for pattern in Pattern}

    calibrations = calibrate(nothing, MULTI)

    assert all(one.temperature == 1.0 and one.thresholds == (0.5, 0.5, 0.5) for one in calibrations.values())


@pytest.mark.parametrize("problem", [SINGLE, MULTI])
def test_answers_that_are_all_right_get_more_confident_within_bounds(problem: Problem) -> None:
    logits, labels = 2 * torch.eye(3).repeat(20, 1) - 1, torch.arange(3).repeat(20)
    targets = functional.one_hot(labels, 3) if problem is MULTI else labels

    assert 0.05 <= temperature_of(logits, targets, problem) < 1.0


def test_equal_logits_and_a_single_item_leave_scores_unchanged() -> None:
    assert temperature_of(torch.zeros(4, 3), torch.tensor([0, 1, 2, 2])) == 1.0
    assert temperature_of(torch.eye(3)[:1], torch.tensor([1])) == 1.0


def test_joined_answers_are_those_of_both_parts() -> None:
    logits, labels = drawn(0, items=10)
    whole = answers(logits, labels)

    both = joined([whole.where(torch.arange(10) < 4), whole.where(torch.arange(10) >= 4)])

    assert torch.equal(both.logits, logits)
    assert torch.equal(both.targets, labels)
    assert both.item.tolist() == list(range(10))


@given(seed=st.integers(0, 200))
@settings(deadline=None, max_examples=25)
def test_thresholds_give_their_own_data_a_better_f1_than_a_half(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((300, 4)) < 0.2
    probabilities = np.clip(0.25 * truth + 0.3 * rng.random((300, 4)), 0, 1)  # right in order, but never above 0.55

    thresholds = fit_thresholds(probabilities, truth.astype(np.float32))

    assert macro_f1(probabilities >= np.array(thresholds), truth) >= macro_f1(probabilities >= 0.5, truth)


def test_of_equally_good_thresholds_the_middle_one_is_chosen() -> None:
    truth = np.tile([[True], [False]], (20, 1))

    assert fit_thresholds(np.where(truth, 0.9, 0.1), truth.astype(np.float32)) == pytest.approx((0.5,), abs=0.011)
    assert fit_thresholds(np.full((4, 2), 0.3), np.zeros((4, 2), dtype=np.float32)) == (0.5, 0.5)


def test_a_label_without_positives_takes_the_threshold_of_the_others() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((300, 3), dtype=bool)
    truth[:, :2] = rng.random((300, 2)) < 0.3
    probabilities = 0.2 * truth + 0.19 * rng.random((300, 3))  # 0.2 parts what is true from what is not

    thresholds = fit_thresholds(probabilities, truth.astype(np.float32))

    assert thresholds[2] == pytest.approx(0.2, abs=0.02)


def macro_f1(selected: np.ndarray, truth: np.ndarray) -> float:
    hits = (selected & truth).sum(axis=0)
    return float((2 * hits / np.maximum(selected.sum(axis=0) + truth.sum(axis=0), 1)).mean())


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 100.0])  # 100: scores of exactly 0 and 1
def test_the_bins_give_the_calibration_error_of_torchmetrics(scale: float) -> None:
    logits, labels = drawn(seed=0, temperature=2.0)
    logits = scale * logits
    targets = functional.one_hot(labels, 5)

    single = reliability(logits, labels, SINGLE).expected_error
    multi = reliability(logits, targets, MULTI).expected_error

    assert single == pytest.approx(float(multiclass_calibration_error(logits.softmax(-1), labels, 5)), abs=1e-5)
    flat = logits.sigmoid().flatten(), targets.flatten()
    assert multi == pytest.approx(float(binary_calibration_error(*flat, n_bins=15)), abs=1e-5)


def test_certain_answers_have_a_bin_of_their_own() -> None:
    logits = torch.tensor([[50.0, 0.0]] * 10 + [[3.5, 0.0]] * 10)
    labels = torch.tensor([1] * 10 + [0] * 10)  # certain answers are wrong, nearly certain ones are right

    bins = reliability(logits, labels, SINGLE)

    assert bins.count.tolist() == [0] * 14 + [10, 10]
    error = multiclass_calibration_error(logits.softmax(-1), labels, 2, n_bins=15)
    assert bins.expected_error == pytest.approx(float(error), abs=1e-6)
