"""What answers without a model would score: the majority of the training split, and chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from model_store import Problem
from training.data.examples import Example
from training.data.splits import Split, TaskData
from training.learning.encoded_split import SCORED
from training.learning.evaluation import headline_metric, score

_SURE = 20.0  # logit


def baselines(data: TaskData, problem: Problem) -> dict[str, Any]:
    """For metrics.json: the headline metric, and by split and view what `majority` and `chance` score in it.

    The majority answer is the most frequent label of the training split; of a multi-label task, the labels that more
    than half of its items have. Chance gives every label the same probability.
    """
    metric = headline_metric(problem, data.labels, data.validation)
    majority = _majority(data, problem)
    return {
        "metric": metric,
        "majority_labels": [label for label, value in zip(data.labels, majority.tolist(), strict=True) if value > 0],
        **{name: _of_views(data.splits()[name], data.labels, problem, metric, majority) for name in SCORED},
    }


def _majority(data: TaskData, problem: Problem) -> Tensor:
    """Logits (C,) of the majority answer."""
    shares = _targets(data.train.items, data.labels).mean(dim=0)
    chosen = shares > 0.5
    if problem is Problem.SINGLE_LABEL:
        chosen = torch.arange(len(shares)) == shares.argmax()
    return torch.where(chosen, _SURE, -_SURE)


def _of_views(
    split: Split, labels: tuple[str, ...], problem: Problem, metric: str, majority: Tensor
) -> dict[str, dict[str, float | None]]:
    views = {
        "overall": split.items,
        "both": [item for item in split.items if item.image is not None and item.text is not None],
        "image": [item for item in split.items if item.image is not None],
        "text": [item for item in split.items if item.text is not None],
    }
    return {name: _of_items(items, labels, problem, metric, majority) for name, items in views.items()}


def _of_items(
    items: Sequence[Example], labels: tuple[str, ...], problem: Problem, metric: str, majority: Tensor
) -> dict[str, float | None]:
    if not items:
        return {"majority": None, "chance": None}
    present = _targets(items, labels)  # (n, C)
    targets = present.argmax(dim=1) if problem is Problem.SINGLE_LABEL else present
    value = score(majority.expand(len(items), -1), targets, problem)[metric]
    return {"majority": value, "chance": None if value is None else round(_chance(present, metric), 6)}


def _chance(present: Tensor, metric: str) -> float:
    match metric:
        case "accuracy":
            return 1 / present.shape[1]
        case "auroc":
            return 0.5
        case _:  # the mean F1 of labels that are selected with probability one half
            shares = present.mean(dim=0)
            return float((shares / (shares + 0.5)).mean())


def _targets(items: Sequence[Example], labels: tuple[str, ...]) -> Tensor:
    """(n, C) of 0 and 1."""
    index = {label: number for number, label in enumerate(labels)}
    targets = torch.zeros(len(items), len(labels))
    for row, item in enumerate(items):
        targets[row, [index[label] for label in item.labels]] = 1.0
    return targets
