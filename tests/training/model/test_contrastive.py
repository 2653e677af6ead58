"""The loss of retrieval: both directions, in-batch negatives, repeated targets, hidden modalities."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from training.model.contrastive import ContrastiveObjective

TEMPERATURE = 0.2
FIRST, SECOND, THIRD = torch.eye(3)


def vectors(seed: int, count: int = 4) -> Tensor:
    return normalize(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)), dim=-1)


def loss_of(
    queries: Tensor,
    targets: Tensor,
    contents: list[int],
    dropout: float = 0.0,
    distillation: float = 0.0,
    **more: Tensor,
) -> float:
    image_alone, text_alone = more.get("image_alone", queries), more.get("text_alone", queries)
    complete = more.get("complete", torch.ones(len(queries), dtype=torch.bool))
    objective = ContrastiveObjective(TEMPERATURE, dropout, distillation)
    return float(objective(queries, image_alone, text_alone, complete, targets, torch.tensor(contents)))


def info_nce(queries: Tensor, targets: Tensor, contents: list[int]) -> float:
    """The definition, written out."""
    total = 0.0
    for i in range(len(queries)):
        for first, second in ((queries, targets), (targets, queries)):
            own = math.exp(float(first[i] @ second[i]) / TEMPERATURE)
            others = [j for j in range(len(queries)) if contents[j] != contents[i]]
            negatives = sum(math.exp(float(first[i] @ second[j]) / TEMPERATURE) for j in others)
            total -= math.log(own / (own + negatives)) / 2
    return total / len(queries)


@pytest.mark.parametrize("contents", [[1, 2, 3, 4], [1, 2, 1, 4], [7, 7, 7, 7]])
def test_the_other_targets_of_the_batch_are_the_negatives(contents: list[int]) -> None:
    queries, targets = vectors(0), vectors(1)

    assert loss_of(queries, targets, contents) == pytest.approx(info_nce(queries, targets, contents), abs=1e-5)


def test_a_repeated_target_is_no_negative() -> None:
    queries = targets = torch.stack([FIRST, FIRST, SECOND])

    assert loss_of(queries, targets, [1, 1, 2]) < 0.01
    assert loss_of(queries, targets, [1, 3, 2]) > 0.4


def test_a_complete_query_counts_with_a_modality_hidden() -> None:
    queries, image_alone, text_alone, targets = (vectors(seed) for seed in range(4))
    contents, alone = [1, 2, 3, 4], {"image_alone": image_alone, "text_alone": text_alone}

    mixed = loss_of(queries, targets, contents, 0.6, **alone)

    parts = (loss_of(each, targets, contents) for each in (queries, image_alone, text_alone))
    assert mixed == pytest.approx(
        sum(share * part for share, part in zip((0.4, 0.3, 0.3), parts, strict=True)), abs=1e-5
    )


def test_an_incomplete_query_is_never_hidden() -> None:
    queries, targets = vectors(0), vectors(1)
    none = torch.zeros(4, dtype=torch.bool)
    broken = torch.full_like(queries, math.nan)

    loss = loss_of(queries, targets, [1, 2, 3, 4], 0.6, 0.5, image_alone=broken, text_alone=broken, complete=none)

    assert loss == pytest.approx(loss_of(queries, targets, [1, 2, 3, 4]), abs=1e-5)


def test_distillation_teaches_the_complete_answer() -> None:
    queries, targets, contents = vectors(0), vectors(1), [1, 2, 3, 3]

    alike = loss_of(queries, targets, contents, 0.0, 1.0) - loss_of(queries, targets, contents)
    other = loss_of(queries, targets, contents, 0.0, 1.0, image_alone=-queries) - loss_of(queries, targets, contents)

    assert math.isfinite(alike)
    assert other > alike > 0


@pytest.mark.parametrize("complete", [True, False])
def test_gradients_are_finite_when_targets_repeat(complete: bool) -> None:
    queries, targets = vectors(0).requires_grad_(), vectors(1).requires_grad_()
    objective = ContrastiveObjective(0.01, 0.667, 0.5)

    loss = objective(queries, queries, queries, torch.full((4,), complete), targets, torch.tensor([1, 1, 2, 2]))
    loss.backward()

    assert queries.grad is not None
    assert bool(queries.grad.isfinite().all())
    assert targets.grad is not None
    assert bool(targets.grad.isfinite().all())
    assert float(targets.grad.abs().sum()) > 0
