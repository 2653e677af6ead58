"""Decisions are those of the service, by softmax or sigmoid of logits / T and thresholds; and how right they are."""

from __future__ import annotations

import pytest
import torch

from model_store import Calibration
from training.learning.decisions import answer_scores, decision_logits

LOGITS = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("thresholds", [(0.5, 0.5, 0.5), (0.1, 0.35, 0.9), (0.02, 0.98, 0.4)])
def test_a_label_is_selected_from_its_threshold_on(temperature: float, thresholds: tuple[float, ...]) -> None:
    decided = decision_logits(LOGITS, Calibration(temperature=temperature, thresholds=thresholds)) >= 0

    assert torch.equal(decided, (LOGITS / temperature).sigmoid() >= torch.tensor(thresholds))
    assert 0 < decided.sum() < decided.numel()


@pytest.mark.parametrize(("threshold", "selected"), [(0.0, True), (1.0, False)])
def test_a_threshold_at_the_end_of_its_range_is_finite(threshold: float, selected: bool) -> None:
    decided = decision_logits(LOGITS, Calibration(thresholds=(threshold,) * 3))

    assert decided.isfinite().all()
    assert bool((decided >= 0).all() if selected else (decided < 0).all())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_single_label_logits_are_divided_by_the_temperature(temperature: float) -> None:
    scores = decision_logits(LOGITS, Calibration(temperature=temperature)).softmax(dim=-1)

    torch.testing.assert_close(scores, (LOGITS.double() / temperature).softmax(dim=-1))


@pytest.mark.parametrize(
    ("selected", "true", "f1"),
    [
        ([1, 1, 0], [1, 1, 0], 1.0),
        ([1, 0, 0], [1, 1, 0], 2 / 3),
        ([1, 1, 1], [1, 0, 0], 0.5),
        ([0, 0, 1], [1, 1, 0], 0.0),
        ([0, 0, 0], [1, 0, 0], 0.0),
        ([1, 0, 0], [0, 0, 0], 0.0),
        ([0, 0, 0], [0, 0, 0], 1.0),
    ],
)
def test_a_set_of_labels_is_as_right_as_its_f1(selected: list[int], true: list[int], f1: float) -> None:
    logits = torch.tensor([selected]) * 2.0 - 1.0
    calibration = Calibration(temperature=2.0, thresholds=(0.5, 0.4, 0.6))

    assert answer_scores(logits, torch.tensor([true]), calibration).tolist() == pytest.approx([f1])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_a_label_is_right_or_wrong(temperature: float) -> None:
    scores = answer_scores(LOGITS, torch.full((200,), 1), Calibration(temperature=temperature))

    assert set(scores.tolist()) == {0.0, 1.0}
    assert torch.equal(scores == 1, LOGITS.argmax(dim=-1) == 1)
