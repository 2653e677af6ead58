"""Evaluation: scores for each presence pattern, and their confidence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_store import Calibration, Pattern, Problem
from service.models.head import scores
from training.data.missing import Lacks
from training.learning.evaluation import EncodedSplit, evaluate

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
