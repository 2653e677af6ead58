"""Yardsticks: the scores without a pretrained model, from the cells that the missing tables leave visible."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_store import Problem
from training.config import TaskConfig
from training.data.calibration_split import set_apart
from training.data.missing import Lacks, Table, draw_tables, natural_table
from training.data.splits import Split, TaskData
from training.errors import ConfigError
from training.learning.batches import targets_of
from training.learning.calibration import calibrate
from training.learning.encoded_split import SCORED, EncodedSplit
from training.learning.evaluation import evaluate_splits
from training.learning.picture_features import PictureFeatures
from training.learning.regression import Inputs, Regression, kernel, logistic_regression, ngrams

_UNREADABLE = {"tfidf": Lacks.TEXT, "hog": Lacks.IMAGE}  # entry of a missing table; `majority` reads no item


def check_installed(names: Collection[str]) -> None:
    """Raise ConfigError if scikit-learn is not installed and a yardstick among these methods needs it."""
    needing = [name for name in names if name in _UNREADABLE]
    try:
        if needing:
            import sklearn  # noqa: F401
    except ImportError as error:
        cure = "install the extra train again (pip install 'mora-serve[train]'), or name other methods"
        raise ConfigError(
            f"--methods: scikit-learn for {' and '.join(needing)} is missing ({error}); {cure}"
        ) from error


def measure(
    name: str, strength: float | None, config: TaskConfig, data: TaskData, pictures: PictureFeatures
) -> dict[str, Any]:
    """Train a yardstick on the visible cells of train, and score it on validation and test, as in metrics.json.

    Args:
        strength: C, the inverse strength of the regularisation; None for `majority`.
    """
    divided = set_apart(config, data, draw_tables(config, data))  # as for the other methods
    data, tables = divided.data, divided.tables
    yardstick, seconds = _trained(name, strength, config, data, tables["train"], pictures)
    encoded = {split: yardstick.encode(data.splits()[split]) for split in SCORED}
    head = nn.Linear(len(data.labels), len(data.labels), bias=False)
    nn.init.eye_(head.weight)  # the features are the logits
    held_out = encoded["validation"].by_pattern(head, tables["validation"])
    scores = evaluate_splits(head, encoded, tables, config.problem, calibrate(held_out, config.problem))
    return {**scores, "trainable_parameters": None, "seconds": {"train": round(seconds, 1)}}


def share_logits(targets: Tensor, classes: int, problem: Problem) -> Tensor:
    """Logits (C,) of the share of each label, by the rule of succession: no share is 0 or 1."""
    if problem is Problem.MULTI_LABEL:
        return ((targets.sum(dim=0) + 1) / (len(targets) + 2)).logit()
    return ((targets.bincount(minlength=classes) + 1) / (len(targets) + classes)).log()


@dataclass(frozen=True)
class _Yardstick:
    """A trained yardstick. An item of which it reads nothing is answered with the labels' shares."""

    name: str
    model: Regression | None  # None: it reads nothing of any item
    shares: Tensor
    labels: tuple[str, ...]
    problem: Problem
    pictures: PictureFeatures

    def encode(self, split: Split) -> EncodedSplit:
        """Its answers (N, C) in place of the features of the modality that it reads; the other has no features."""
        natural = natural_table(split)
        answers = self.shares.repeat(len(natural), 1)
        readable = _readable(self.name, natural)
        if self.model is not None and readable.any():
            answers[readable] = self.model.logits(_inputs(self.name, split, readable, self.pictures))
        targets = targets_of(split.items, self.labels, self.problem)
        nothing = torch.empty(len(natural), 0)
        if self.name == "hog":
            return EncodedSplit(answers, nothing, self.shares, nothing[0], targets, natural)
        return EncodedSplit(nothing, answers, nothing[0], self.shares, targets, natural)


def _trained(
    name: str, strength: float | None, config: TaskConfig, data: TaskData, table: Table, pictures: PictureFeatures
) -> tuple[_Yardstick, float]:
    """The yardstick and the seconds of its training, without those of describing pictures, which all runs share."""
    targets = targets_of(data.train.items, data.labels, config.problem)
    shares = share_logits(targets, len(data.labels), config.problem)
    model, started, visible = None, time.monotonic(), _readable(name, table)
    if strength is not None and visible.any():
        inputs = _inputs(name, data.train, visible, pictures)
        features = ngrams() if name == "tfidf" else kernel(np.asarray(inputs))
        classifier = logistic_regression(strength, config.train.class_weights == "balanced")
        started = time.monotonic()  # scikit-learn is imported
        model = Regression(features, classifier, inputs, targets[visible], shares, config.problem)
    seconds = time.monotonic() - started
    return _Yardstick(name, model, shares, data.labels, config.problem, pictures), seconds


def _readable(name: str, table: Table) -> NDArray[np.bool_]:
    """(N,): the items whose modality the yardstick reads and the table leaves visible."""
    return table != _UNREADABLE[name] if name in _UNREADABLE else np.zeros(len(table), dtype=bool)


def _inputs(name: str, split: Split, chosen: NDArray[np.bool_], pictures: PictureFeatures) -> Inputs:
    items = [item for item, is_chosen in zip(split.items, chosen, strict=True) if is_chosen]
    return pictures.of(items) if name == "hog" else [item.text or "" for item in items]
