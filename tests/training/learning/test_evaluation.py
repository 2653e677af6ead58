"""Evaluation: scores for each presence pattern, their confidence, and the score that selects an epoch.

Covers training.learning.encoded_split.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional import classification as torchmetrics

from model_store import Calibration, Pattern, Problem
from service.models.head import scores
from training.config import TaskConfig
from training.data.missing import Lacks
from training.data.splits import load_data
from training.errors import DivergedError
from training.learning.batches import Collator, RawInputs
from training.learning.encoded_split import EncodedSplit, encode
from training.learning.evaluation import evaluate, headline_metric, score, selection_metric, selection_score
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


@pytest.mark.parametrize("problem", [Problem.SINGLE_LABEL, Problem.MULTI_LABEL])
def test_confidence_is_the_mean_of_the_values_that_the_service_counts(problem: Problem) -> None:
    calibrations = {pattern: Calibration(temperature=HEAT[pattern], thresholds=THRESHOLDS[problem]) for pattern in HEAT}
    split, head = encoded(problem, 12, Lacks.NOTHING), torch.nn.Linear(8, 3)

    views, _ = evaluate(head, split, split.natural, problem, calibrations)

    for pattern in Pattern:
        logits = split.of_pattern(head, pattern).logits
        counted = [scores(row, problem, calibrations[pattern]).max() for row in logits.detach().numpy()]
        assert views[pattern]["confidence"] == pytest.approx(np.mean(counted), abs=1e-5)
    assert views["overall"]["confidence"] == views["both"]["confidence"]


@pytest.mark.parametrize("problem", [Problem.SINGLE_LABEL, Problem.MULTI_LABEL])
def test_the_scores_of_a_view_without_items_are_none(problem: Problem) -> None:
    calibrations = {pattern: Calibration(thresholds=THRESHOLDS[problem]) for pattern in Pattern}
    split = encoded(problem, 6, Lacks.IMAGE)

    views, _ = evaluate(torch.nn.Linear(8, 3), split, split.natural, problem, calibrations)

    assert views["image"] == {"items": 0} | dict.fromkeys(views["text"].keys() - {"items"})
    assert None not in views["text"].values()


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


@pytest.mark.parametrize("headline", ["accuracy", "macro_f1"])
@pytest.mark.parametrize("value", [0.0, 0.5, 0.999998])
def test_of_equal_scores_the_lower_log_loss_is_selected(headline: str, value: float) -> None:
    epochs = [{headline: value, "log_loss": loss} for loss in (0.7, 0.2, 30.0)]
    better = {headline: value + 1e-6, "log_loss": 50.0}  # the least difference of two rounded scores

    selected = [selection_score(scores, headline) for scores in [*epochs, better]]

    assert sorted(range(4), key=lambda epoch: selected[epoch] or 0.0) == [2, 0, 1, 3]


@pytest.mark.parametrize(
    ("problem", "headline", "classes", "value"),
    [
        (Problem.SINGLE_LABEL, "accuracy", 3, 1.0),
        (Problem.SINGLE_LABEL, "auroc", 2, 1.0),
        (Problem.MULTI_LABEL, "macro_f1", 2, 1.0),
        (Problem.MULTI_LABEL, "macro_f1", 4, 0.0),
        (Problem.SINGLE_LABEL, "accuracy", 5, 0.0),
        (Problem.SINGLE_LABEL, "auroc", 2, 0.0),
    ],
)
def test_of_models_with_equal_answers_the_more_likely_one_is_selected(
    problem: Problem, headline: str, classes: int, value: float
) -> None:
    """All models are right in every item, or wrong in every item, with another confidence each."""
    true = torch.eye(classes).repeat(3, 1)
    targets = true if problem is Problem.MULTI_LABEL else true.argmax(dim=1)
    direction = (2 * true - 1) * (1.0 if value else -1.0)

    models = [score(size * direction, targets, problem) for size in (0.1, 1.0, 3.0)]

    assert [each[headline] for each in models] == [value] * 3
    selected = [selection_score(each, headline) or 0.0 for each in models]
    assert sorted(selected, reverse=not value) == selected
    assert len(set(selected)) == 3


def test_with_two_labels_the_log_loss_selects() -> None:
    """Both models put the items in the right order. The first gives every item the same label."""
    targets = torch.tensor([0, 0, 1, 1])
    first = torch.tensor([[3.0, 0.0], [3.0, 0.1], [3.0, 1.0], [3.0, 1.1]])
    second = torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 2.0]])

    scores = [score(logits, targets, Problem.SINGLE_LABEL) for logits in (first, second)]

    assert [each["auroc"] for each in scores] == [1.0, 1.0]
    assert [each["accuracy"] for each in scores] == [0.5, 1.0]
    worse, better = (selection_score(each, "auroc") for each in scores)
    assert worse is not None
    assert better is not None
    assert better > worse


@pytest.mark.parametrize("headline", ["accuracy", "macro_f1", "auroc"])
def test_an_undefined_score_selects_nothing(headline: str) -> None:
    assert selection_score({headline: None, "log_loss": None}, headline) is None


@pytest.mark.parametrize("headline", ["accuracy", "macro_f1", "auroc"])
def test_a_run_of_an_earlier_version_without_log_loss_is_selected_by_its_metric(headline: str) -> None:
    assert selection_score({headline: 0.75}, headline) == 0.75


@pytest.mark.parametrize(
    ("problem", "labels", "expected"),
    [("single_label", ["red", "blue", "green"], "accuracy"), ("multi_label", ["red", "blue", "green"], "macro_f1")],
)
def test_reports_name_the_usual_score_of_the_problem_first(
    make_config: Callable[..., TaskConfig], problem: str, labels: list[str], expected: str
) -> None:
    data = load_data(make_config(problem=problem))

    assert headline_metric(Problem(problem), tuple(labels), data.validation) == expected


@pytest.mark.parametrize(
    ("problem", "class_weights", "expected"),
    [
        ("single_label", "none", "accuracy"),
        ("single_label", "balanced", "macro_f1"),
        ("multi_label", "none", "macro_f1"),
        ("multi_label", "balanced", "macro_f1"),
    ],
)
def test_with_class_weights_macro_f1_selects(
    make_config: Callable[..., TaskConfig], problem: str, class_weights: str, expected: str
) -> None:
    config = make_config(problem=problem, train={"class_weights": class_weights})
    data = load_data(config)

    assert selection_metric(config, data.labels, data.validation) == expected


@pytest.mark.parametrize("spread", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_single_label_scores_are_those_of_torchmetrics(classes: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = spread * torch.randn(80, classes, generator=generator)
    targets = torch.randint(classes - (classes > 2), (80,), generator=generator)  # of five labels, one never occurs

    scores = score(logits, targets, Problem.SINGLE_LABEL)

    expected = {
        "accuracy": torchmetrics.multiclass_accuracy(logits, targets, classes, average="micro"),
        "macro_f1": torchmetrics.multiclass_f1_score(logits, targets, classes, average="macro"),
        "ece": torchmetrics.multiclass_calibration_error(logits.softmax(dim=-1), targets, classes, n_bins=15),
    }
    if classes == 2:
        expected["auroc"] = torchmetrics.binary_auroc(logits.double().softmax(dim=-1)[:, 1], targets)
    assert {name: scores[name] for name in expected} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, abs=2e-6
    )


@pytest.mark.parametrize("classes", [1, 2, 6])
def test_multi_label_scores_are_those_of_torchmetrics(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits, truth = torch.randn(60, classes, generator=generator), torch.rand(60, classes, generator=generator) < 0.4

    scores = score(logits, truth.float(), Problem.MULTI_LABEL)

    expected = {
        "exact_match": (logits.sigmoid().gt(0.5) == truth).all(dim=-1).double().mean(),
        "macro_f1": torchmetrics.multilabel_f1_score(logits, truth.int(), classes, average="macro")
        if classes > 1
        else torchmetrics.binary_f1_score(logits.flatten(), truth.int().flatten()),
        "ece": torchmetrics.binary_calibration_error(logits.sigmoid().flatten(), truth.int().flatten(), n_bins=15),
    }
    assert {name: scores[name] for name in expected} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, abs=2e-6
    )


def test_the_roc_area_of_one_label_is_undefined() -> None:
    for label in (0, 1):
        scores = score(torch.randn(5, 2), torch.full((5,), label), Problem.SINGLE_LABEL)

        assert scores["auroc"] is None
        assert scores["accuracy"] is not None
