"""The linear probe: a regularised head over the frozen features. No trained model may be worse."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_store import Pattern, Problem
from training.data.missing import Lacks, Table
from training.errors import DivergedError
from training.learning.calibration import Answers, joined, log_losses
from training.learning.encoded_split import EncodedSplit

FOLDS = 5
CROSS_FITTED = 2000  # items; with more, validation alone chooses the penalty, and a sample of this size the balance
BALANCES = (0.2, 0.33, 0.6, 1.0, 1.7, 3.0, 5.0)
PENALTIES = tuple(10 ** (power / 2) for power in range(7, -5, -1))  # strongest first
_WORSE = 3  # penalties in a row that end the search: near the strongest, the loss may rise before it falls
_LEAST_GAIN = 1e-3  # of the mean log loss of held-out items, for which the balance is moved
_CONSTANT = 1e-4  # of a tower's features: a smaller spread is rounding, since no item has the modality
_STEPS, _TOLERANCE = 50, 1e-5  # of L-BFGS for each penalty, and of the loss


@dataclass(frozen=True)
class Probe:
    """A head, and its answers to items that it was not fitted on.

    `held_out` has the validation split, and of a small training split also its items, each answered by a head that was
    fitted without its fold.
    """

    head: nn.Linear
    penalty: float
    held_out: dict[Pattern, Answers]


def fit_probe(
    encoded: Mapping[str, EncodedSplit],
    tables: Mapping[str, Table],
    groups: NDArray[np.intp],
    classes: int,
    problem: Problem,
    modality_dropout: float,
    class_weights: Tensor | None = None,
) -> Probe:
    """Fit the probe on the training split.

    The log loss of held-out items under their missing table chooses the balance of the towers and the penalty. For a
    balance, the penalty is lowered from the strongest on until the loss no longer falls. From equal towers on, the
    balance is moved while the loss falls. The held-out items are the validation split and, of a training split of at
    most 2,000 items, five folds. Of a larger one, 2,000 random items choose the balance.

    Args:
        encoded, tables: of `train` and `validation`.
        groups: (N,), the group of each training item; a group is never divided among folds.
        modality_dropout: the weight of a complete item's answers without its image or text, as in training.
        class_weights: (C,), of the loss and of the held-out log loss.

    Raises:
        DivergedError: a feature is not finite.
    """
    train, validation = (replace(encoded[name], natural=tables[name]) for name in ("train", "validation"))
    rows, is_small = _rows(train, modality_dropout), len(groups) <= CROSS_FITTED
    if not all(each.isfinite().all() for each in (rows.features, validation.features(validation.natural))):
        cure = "check the backbone and the pictures (`mora-train data`)"
        raise DivergedError(f"the frozen features, from which the linear probe starts, are not finite; {cure}")
    parts, views = [rows], [(validation, torch.ones(len(validation.targets), dtype=torch.bool))]
    for fold in _folds(groups) if is_small else ():
        parts.append(rows.where(~fold[rows.item]))
        views.append((train, fold))

    def solve(parts: list[_Rows], balance: float) -> _Solution:
        searches = [_Search(part, classes, problem, balance, class_weights) for part in parts]
        best, worse = _Solution(math.inf, math.nan, []), 0
        for penalty in PENALTIES:
            heads = [search.solve(penalty) for search in searches]
            losses = [_log_losses(head, *view, problem, class_weights) for head, view in zip(heads, views, strict=True)]
            loss = float(torch.cat(losses).mean())
            if loss < best.loss:
                best, worse = _Solution(loss, penalty, heads), 0
            elif (worse := worse + 1) == _WORSE:
                break
        return best

    sample = parts if is_small else [_sampled(rows, len(groups))]
    solution = cache(lambda balance: solve(sample, balance))
    balance = _lowest(lambda balance: solution(balance).loss)
    _, penalty, heads = solution(balance) if is_small else solve(parts, balance)
    held_out = {
        pattern: joined([_of_view(head, *view, pattern) for head, view in zip(heads, views, strict=True)])
        for pattern in Pattern
    }
    return Probe(heads[0], penalty, held_out)


def _folds(groups: NDArray[np.intp]) -> list[Tensor]:
    """Masks (N,) of the items of each fold. A fold that would have no items, or all of them, is left out."""
    folds = [torch.from_numpy(groups % FOLDS == number) for number in range(FOLDS)]
    return [fold for fold in folds if fold.any() and not fold.all()]


def _sampled(rows: _Rows, items: int) -> _Rows:
    """The rows of random items."""
    order = torch.randperm(items, generator=torch.Generator().manual_seed(0))
    return rows.where(torch.isin(rows.item, order[:CROSS_FITTED]))


class _Solution(NamedTuple):
    """The mean log loss of the held-out items, the penalty, and the heads: of all rows first, then without a fold."""

    loss: float
    penalty: float
    heads: list[nn.Linear]


def _lowest(loss: Callable[[float], float]) -> float:
    """The balance whose neighbours in `BALANCES` have no lower loss, found by walking from the middle."""
    position = BALANCES.index(1.0)
    while True:
        near = [each for each in (position, position - 1, position + 1) if 0 <= each < len(BALANCES)]
        best = min(near, key=lambda each: loss(BALANCES[each]))
        if loss(BALANCES[best]) > loss(BALANCES[position]) - _LEAST_GAIN:
            return BALANCES[position]
        position = best


@dataclass(frozen=True)
class _Rows:
    """Features (N, 2P) with targets, weights (N,) and the row of each item in its split (N,)."""

    features: Tensor
    targets: Tensor
    weight: Tensor
    item: Tensor

    def where(self, chosen: Tensor) -> _Rows:
        return _Rows(self.features[chosen], self.targets[chosen], self.weight[chosen], self.item[chosen])


class _Search:
    """The head that minimises `mean loss + penalty / (4 P) * |W|^2`. Each search starts at the solution before.

    W is the weight over centred features with root mean square 1, in which the image tower is larger than the text
    tower by the square of `balance`: the penalty is weaker for the tower with the larger features.
    """

    def __init__(
        self, rows: _Rows, classes: int, problem: Problem, balance: float, class_weights: Tensor | None
    ) -> None:
        self._targets, self._share, self._problem = rows.targets, rows.weight / rows.weight.sum(), problem
        self._class_weights = class_weights
        self._mean = rows.features.mean(dim=0)
        towers = (rows.features - self._mean).reshape(len(rows.features), 2, -1)  # (N, 2, P)
        size = towers.square().mean(dim=(0, 2), keepdim=True).sqrt()
        share = torch.tensor([balance, 1 / balance])
        level = rows.features.reshape(towers.shape).square().mean(dim=(0, 2), keepdim=True).sqrt()
        is_constant = size <= _CONSTANT * level
        size = size / (share / share.square().mean().sqrt()).reshape(1, 2, 1)
        size = size.masked_fill(is_constant, math.inf)  # weights of 0
        self._inputs, self._size = (towers / size).flatten(1), size.expand(1, *towers.shape[1:]).flatten()
        self._scaled = nn.Linear(self._inputs.shape[1], classes)
        nn.init.zeros_(self._scaled.weight)
        nn.init.zeros_(self._scaled.bias)

    def solve(self, penalty: float) -> nn.Linear:
        optimizer = torch.optim.LBFGS(
            self._scaled.parameters(), max_iter=_STEPS, tolerance_change=_TOLERANCE, line_search_fn="strong_wolfe"
        )

        def loss() -> float:
            optimizer.zero_grad()
            logits = self._scaled(self._inputs)
            fit = self._share @ log_losses(logits, self._targets, self._problem, self._class_weights)
            value = fit + penalty / (2 * self._inputs.shape[1]) * self._scaled.weight.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return float(value.detach())

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        return self.head()

    @torch.no_grad()
    def head(self) -> nn.Linear:
        """The solution as a head over unscaled features."""
        head = nn.Linear(self._scaled.in_features, self._scaled.out_features)
        head.weight.copy_(self._scaled.weight / self._size)
        head.bias.copy_(self._scaled.bias - head.weight @ self._mean)
        return head


def _rows(encoded: EncodedSplit, modality_dropout: float) -> _Rows:
    """The items as they come, and the complete ones also without their text and without their image."""
    complete = torch.from_numpy(encoded.natural == Lacks.NOTHING)
    item = torch.arange(len(complete))
    features, items, weights = [encoded.features(encoded.natural)], [item], [1 - modality_dropout * complete.float()]
    if modality_dropout:
        for pattern in (Pattern.IMAGE, Pattern.TEXT):
            features.append(encoded.features(encoded.under(pattern)[0])[complete])
            items.append(item[complete])
            weights.append(torch.full((int(complete.sum()),), modality_dropout / 2))
    chosen = torch.cat(items)
    return _Rows(torch.cat(features), encoded.targets[chosen], torch.cat(weights), chosen)


def _log_losses(
    head: nn.Linear, encoded: EncodedSplit, chosen: Tensor, problem: Problem, class_weights: Tensor | None
) -> Tensor:
    """The log loss (n,) of each of the chosen items as they come."""
    logits = encoded.logits(head, encoded.natural)[chosen]
    return log_losses(logits, encoded.targets[chosen], problem, class_weights)


def _of_view(head: nn.Linear, encoded: EncodedSplit, chosen: Tensor, pattern: Pattern) -> Answers:
    """The answers to those of the chosen items that allow the pattern."""
    answers = encoded.of_pattern(head, pattern)
    return answers.where(chosen[answers.item])
