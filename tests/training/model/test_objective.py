"""The loss of a batch, against the expectation that it equals."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from model_store import Pattern, Problem
from training.model.objective import Objective

COMPLETE = torch.tensor([True, False, True, False])
LABELS = torch.tensor([0, 1, 2, 1])


@pytest.fixture
def logits_of() -> dict[Pattern, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {pattern: torch.randn(4, 3, generator=generator) for pattern in Pattern}


@pytest.fixture
def logits(logits_of: dict[Pattern, torch.Tensor]) -> torch.Tensor:
    """Items 0 and 2 have both modalities, 1 an image, 3 a text."""
    rows = zip((Pattern.BOTH, Pattern.IMAGE, Pattern.BOTH, Pattern.TEXT), range(4), strict=True)
    return torch.stack([logits_of[pattern][row] for pattern, row in rows])


def alone(logits_of: dict) -> tuple[torch.Tensor, torch.Tensor]:
    return logits_of[Pattern.IMAGE], logits_of[Pattern.TEXT]


def test_without_options_it_is_the_plain_loss(logits_of: dict, logits: torch.Tensor) -> None:
    loss = Objective(Problem.SINGLE_LABEL, 0.0, 0.0)(logits, *alone(logits_of), COMPLETE, LABELS)

    torch.testing.assert_close(loss, functional.cross_entropy(logits, LABELS))


def test_modality_dropout_is_the_mean_over_many_draws(logits_of: dict, logits: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(4000):  # hide one modality of a complete item with probability 0.6, drawn anew each time
        hide = (torch.rand(4, generator=generator) < 0.6) & COMPLETE
        image = torch.rand(4, generator=generator) < 0.5
        one = torch.where(image.unsqueeze(1), logits_of[Pattern.TEXT], logits_of[Pattern.IMAGE])
        losses.append(functional.cross_entropy(torch.where(hide.unsqueeze(1), one, logits), LABELS))

    loss = Objective(Problem.SINGLE_LABEL, 0.6, 0.0)(logits, *alone(logits_of), COMPLETE, LABELS)

    assert float(loss) == pytest.approx(float(torch.stack(losses).mean()), abs=0.02)


@pytest.mark.parametrize("problem", [Problem.SINGLE_LABEL, Problem.MULTI_LABEL])
def test_hidden_modalities_have_no_effect_on_the_loss(problem: Problem, logits_of: dict, logits: torch.Tensor) -> None:
    labels = functional.one_hot(LABELS, 3).float() if problem is Problem.MULTI_LABEL else LABELS
    objective = Objective(problem, 0.5, 1.0)
    before = objective(logits, *alone(logits_of), COMPLETE, labels)

    for pattern in (Pattern.IMAGE, Pattern.TEXT):  # answers that an incomplete item does not allow
        logits_of[pattern] = logits_of[pattern] + 5 * (~COMPLETE).unsqueeze(1) * torch.randn(4, 3)

    torch.testing.assert_close(objective(logits, *alone(logits_of), COMPLETE, labels), before)


def test_distillation_has_no_gradient_through_the_complete_answer(logits_of: dict, logits: torch.Tensor) -> None:
    both = logits_of[Pattern.BOTH].requires_grad_()
    image = logits_of[Pattern.IMAGE].requires_grad_()
    whole = torch.where(COMPLETE.unsqueeze(1), both, logits)

    taught = Objective(Problem.SINGLE_LABEL, 0.0, 1.0)(whole, image, logits_of[Pattern.TEXT], COMPLETE, LABELS)
    plain = Objective(Problem.SINGLE_LABEL, 0.0, 0.0)(whole, image, logits_of[Pattern.TEXT], COMPLETE, LABELS)
    (taught - plain).backward()

    assert both.grad is None or not both.grad.any()
    assert image.grad is not None
    assert image.grad[COMPLETE].any()
    assert not image.grad[~COMPLETE].any()


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.2, 1.0, 5.0], [10.0, 0.1, 1.0]])
@pytest.mark.parametrize("problem", [Problem.SINGLE_LABEL, Problem.MULTI_LABEL])
def test_class_weights_weigh_the_true_labels_alone(
    problem: Problem, weights: list[float], logits_of: dict, logits: torch.Tensor
) -> None:
    is_multi = problem is Problem.MULTI_LABEL
    labels = functional.one_hot(LABELS, 3).float() if is_multi else LABELS
    plain, weighted, taught = Objective(problem, 0.5, 0.0), Objective(problem, 0.5, 0.0), Objective(problem, 0.5, 1.0)
    weighted.class_weights = taught.class_weights = torch.tensor(weights)

    def loss(objective: Objective, which: slice) -> torch.Tensor:
        alone_of = [each[which] for each in alone(logits_of)]
        return objective(logits[which], *alone_of, COMPLETE[which], labels[which])

    for item in range(4):
        which = slice(item, item + 1)
        without, by_weight = loss(plain, which), loss(weighted, which)
        if is_multi:
            assert (by_weight > without) == (weights[LABELS[item]] > 1)
        else:
            torch.testing.assert_close(by_weight, weights[LABELS[item]] * without)
        added = loss(taught, which) - by_weight
        torch.testing.assert_close(added, loss(Objective(problem, 0.5, 1.0), which) - without)
