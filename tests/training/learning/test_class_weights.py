"""Class weights: every label counts the same, and scores stay calibrated."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from model_store import Pattern, Problem
from training.learning.calibration import Answers, calibrate, reliability
from training.learning.class_weights import balanced_weights, remove_shift

SINGLE, MULTI = Problem.SINGLE_LABEL, Problem.MULTI_LABEL


@pytest.mark.parametrize("counts", [[10, 10, 10], [95, 4, 1], [50, 1, 0], [7, 0, 0]])
def test_each_label_of_a_single_label_task_has_the_same_total(counts: list[int]) -> None:
    targets = torch.tensor([label for label, count in enumerate(counts) for _ in range(count)])

    weights = balanced_weights(targets, SINGLE, 3)

    totals = [float(weights[targets][targets == label].sum()) for label, count in enumerate(counts) if count]
    assert totals == pytest.approx([sum(counts) / len(totals)] * len(totals))
    assert weights.isfinite().all()
    assert (weights > 0).all()


@pytest.mark.parametrize("counts", [[50, 50, 50], [90, 9, 1], [100, 0, 3], [99, 100, 0]])
def test_positives_and_negatives_of_each_label_have_the_same_total(counts: list[int]) -> None:
    targets = (torch.arange(100).unsqueeze(1) < torch.tensor(counts)).float()

    weights = balanced_weights(targets, MULTI, 3)

    for weight, count in zip(weights.tolist(), counts, strict=True):
        assert weight == pytest.approx(1 if count in (0, 100) else (100 - count) / count)


def long_tail(items: int, seed: int, labels: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, single-label targets of frequencies 2^-c, and multi-label targets with the same ones."""
    rng = torch.Generator().manual_seed(seed)
    shares = 0.5 ** torch.arange(labels)
    centres = 1.4 * torch.eye(labels, 12)
    single = torch.multinomial(shares, items, replacement=True, generator=rng)
    several = (torch.rand(items, labels, generator=rng) < shares / 2).float()
    noise = torch.randn(items, 12, generator=rng)
    return torch.stack([centres[single] + noise, several @ centres + noise]), single, several


def head_of(features: torch.Tensor, targets: torch.Tensor, problem: Problem, weights: torch.Tensor | None) -> nn.Linear:
    head = nn.Linear(12, 6)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = head(features)
        if problem is MULTI:
            value = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
        else:
            value = functional.cross_entropy(logits, targets, weight=weights, reduction="none").mean()
        value = value + 1e-3 * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return head


def fitted(problem: Problem, seed: int, is_weighted: bool) -> tuple[torch.Tensor, torch.Tensor, Answers]:
    """Calibrated test logits, test targets, and the held-out answers."""
    kind = int(problem is MULTI)
    (train, *train_targets), (held, *held_targets), (test, *test_targets) = (
        long_tail(items, seed * 3 + number) for number, items in enumerate((400, 300, 3000))
    )
    weights = balanced_weights(train_targets[kind], problem, 6) if is_weighted else None
    head = head_of(train[kind], train_targets[kind], problem, weights)
    with torch.no_grad():
        held_out = {Pattern.BOTH: Answers(head(held[kind]), held_targets[kind], torch.arange(300))}
        if weights is not None and problem is MULTI:
            held_out = remove_shift(head, held_out, weights)
            torch.testing.assert_close(held_out[Pattern.BOTH].logits, head(held[kind]))
        temperature = calibrate(held_out, problem)[Pattern.BOTH].temperature
        return head(test[kind]) / temperature, test_targets[kind], held_out[Pattern.BOTH]


@pytest.mark.parametrize("problem", [Problem.SINGLE_LABEL, Problem.MULTI_LABEL])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_calibrated_scores_stay_right_with_weights(problem: Problem, seed: int) -> None:
    plain, weighted = (
        reliability(*fitted(problem, seed, is_weighted)[:2], problem).expected_error for is_weighted in (False, True)
    )

    assert weighted < plain + 0.03
    assert weighted < 0.06


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rare_labels_are_answered_more_often_with_weights(seed: int) -> None:
    def recall(is_weighted: bool) -> float:
        logits, targets, _ = fitted(SINGLE, seed, is_weighted)
        answers = logits.argmax(dim=1)
        return float(torch.stack([(answers[targets == label] == label).float().mean() for label in (3, 4, 5)]).mean())

    assert recall(True) > recall(False) + 0.1


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_part_of_the_shift_that_held_out_answers_show_is_removed(share: float) -> None:
    rng = torch.Generator().manual_seed(0)
    true = 2 * torch.randn(4000, 3, generator=rng) - torch.tensor([0.0, 2.0, 4.0])
    targets = (torch.rand(4000, 3, generator=rng) < true.sigmoid()).float()
    weights = torch.tensor([1.0, 9.0, 50.0])
    head = nn.Linear(2, 3)
    before = head.bias.detach().clone()

    answers = remove_shift(
        head, {Pattern.TEXT: Answers(true + share * weights.log(), targets, torch.arange(4000))}, weights
    )

    torch.testing.assert_close(before - head.bias, share * weights.log(), atol=0.15, rtol=0)
    torch.testing.assert_close(answers[Pattern.TEXT].logits, true, atol=0.15, rtol=0)


def test_without_held_out_answers_nothing_is_removed() -> None:
    head = nn.Linear(2, 3)
    before = head.bias.detach().clone()

    remove_shift(
        head, {Pattern.TEXT: Answers(torch.zeros(0, 3), torch.zeros(0, 3), torch.arange(0))}, torch.ones(3) * 9
    )

    torch.testing.assert_close(head.bias, before)
