"""Evaluation: scores for each presence pattern, and their confidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from model_store import Calibration, Pattern, Problem
from service.models.head import scores
from training.config import TaskConfig
from training.data.missing import Lacks
from training.data.splits import load_data
from training.errors import DivergedError
from training.learning.batches import Collator, RawInputs
from training.learning.evaluation import EncodedSplit, encode, evaluate
from training.learning.runs import build

HEAT = {Pattern.BOTH: 0.5, Pattern.IMAGE: 1.0, Pattern.TEXT: 2.0}
THRESHOLDS = {Problem.SINGLE_LABEL: None, Problem.MULTI_LABEL: (0.5, 0.5, 0.5)}


def encoded(problem: Problem, items: int, natural: Lacks) -> EncodedSplit:
    torch.manual_seed(1)
    targets = torch.arange(items) % 3
    if problem is Problem.MULTI_LABEL:
        targets = torch.nn.functional.one_hot(targets, 3).float()
    image, text = torch.randn(items, 4), torch.randn(items, 4)
    return EncodedSplit(image, text, torch.zeros(4), torch.zeros(4), targets, np.full(items, natural))


@pytest.mark.parametrize("problem", Problem)
def test_confidence_is_the_mean_of_the_values_that_the_service_counts(problem: Problem) -> None:
    calibrations = {pattern: Calibration(temperature=HEAT[pattern], thresholds=THRESHOLDS[problem]) for pattern in HEAT}
    split, head = encoded(problem, 12, Lacks.NOTHING), torch.nn.Linear(8, 3)

    views = evaluate(head, split, split.natural, problem, calibrations)

    for pattern in Pattern:
        logits, _ = split.of_pattern(head, pattern)
        counted = [scores(row, problem, calibrations[pattern]).max() for row in logits.detach().numpy()]
        assert views[pattern]["confidence"] == pytest.approx(np.mean(counted), abs=1e-5)
    assert views["overall"]["confidence"] == views["both"]["confidence"]


def test_confidence_without_items_is_none() -> None:
    calibrations = {pattern: Calibration() for pattern in Pattern}
    split = encoded(Problem.SINGLE_LABEL, 6, Lacks.IMAGE)

    views = evaluate(torch.nn.Linear(8, 3), split, split.natural, Problem.SINGLE_LABEL, calibrations)

    assert views["image"]["confidence"] is None
    assert views["text"]["confidence"] is not None


@pytest.mark.parametrize(
    ("modality", "items", "rows"),
    [
        ("image", [0], "row 1 are"),
        ("text", [1, 2], "row 2, 3 are"),
        ("image", [0, 1, 2, 4, 5], "row 1, 2, 3 and 2 more"),
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_rows_whose_features_are_not_finite_are_named(
    make_config: Callable[..., TaskConfig],
    monkeypatch: pytest.MonkeyPatch,
    modality: str,
    items: list[int],
    rows: str,
    value: float,
) -> None:
    config = make_config()
    data = load_data(config)
    model, preprocessor = build(config, len(data.labels))
    features = model.features

    def broken(**batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        images, texts = features(**batch)
        (images if modality == "image" else texts)[items] = value
        return images, texts

    monkeypatch.setattr(model, "features", broken)
    collator = Collator(RawInputs(preprocessor), data.labels, config.problem)

    with pytest.raises(DivergedError, match=f"the {modality} features of {rows}.* not finite"):
        encode(model, data.validation, collator)
