"""Logistic regression on texts and pictures: what it learns, and labels that it cannot learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_store import Problem
from training.learning.regression import Regression, kernel, logistic_regression, ngrams

SINGLE, MULTI = Problem.SINGLE_LABEL, Problem.MULTI_LABEL
WORDS = ("red apple", "green leaf", "blue sea")


def trained(inputs, targets: list, shares: list[float], problem: Problem, balanced: bool = False) -> Regression:
    logits = torch.tensor(shares).log() if problem is SINGLE else torch.tensor(shares).logit()
    classifier = logistic_regression(100.0, balanced)
    features = ngrams() if isinstance(inputs, list) else kernel(inputs)
    return Regression(features, classifier, inputs, torch.tensor(targets), logits, problem)


@pytest.mark.parametrize("labels", [2, 3])
def test_texts_are_learnt(labels: int) -> None:
    texts = [f"{WORDS[row % labels]} {row}" for row in range(12)]

    model = trained(texts, [row % labels for row in range(12)], [1 / labels] * labels, SINGLE)

    assert model.logits([*WORDS[:labels]]).argmax(dim=1).tolist() == [*range(labels)]
    assert model.logits(["RED APPLES!", "nothing known: ???"])[0].argmax() == 0


@pytest.mark.parametrize("labels", [2, 3])
def test_pictures_are_learnt(labels: int) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(labels, 20))
    rows = np.float32(np.repeat(centres, 8, axis=0) + 0.1 * rng.normal(size=(8 * labels, 20)))

    model = trained(rows, [row // 8 for row in range(8 * labels)], [1 / labels] * labels, SINGLE)

    assert model.logits(np.float32(centres)).argmax(dim=1).tolist() == [*range(labels)]


def test_each_label_of_several_is_learnt_alone() -> None:
    texts = ["red", "green", "red green", "blue"] * 4
    targets = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]] * 4

    answers = trained(texts, targets, [0.5, 0.5], MULTI).logits(["red", "green", "red green", "blue"])

    assert (answers > 0).tolist() == [[True, False], [False, True], [True, True], [False, False]]


@pytest.mark.parametrize("count", [0, 2, 5])
def test_a_label_without_visible_items_keeps_its_share(count: int) -> None:
    """Of three labels with the shares 0.5, 0.3 and 0.2, the last has no item among those that are read."""
    texts = [WORDS[row % 2] for row in range(count)]

    answers = trained(texts, [row % 2 for row in range(count)], [0.5, 0.3, 0.2], SINGLE).logits(["red apple", "sea"])

    probabilities = answers.softmax(dim=1)
    assert probabilities[:, 2].tolist() == pytest.approx([0.2, 0.2])
    assert probabilities.sum(dim=1).tolist() == pytest.approx([1, 1])
    if count == 0:
        assert probabilities.tolist() == pytest.approx(np.array([[0.5, 0.3, 0.2]] * 2))
    else:
        assert probabilities[0, 0] > 0.5


@pytest.mark.parametrize(
    ("column", "share"), [([0.0] * 4, 0.1), ([1.0] * 4, 0.9), ([1.0] * 4, 0.4)], ids=["nobody", "all", "all-visible"]
)
def test_a_label_of_several_that_all_or_none_have_keeps_its_share(column: list[float], share: float) -> None:
    targets = [[float(row % 2), value] for row, value in enumerate(column)]

    answers = trained(["red", "blue"] * 2, targets, [0.5, share], MULTI).logits(["red", "blue", "?"])

    assert answers[:, 1].sigmoid().tolist() == pytest.approx([share] * 3)
    assert answers[1, 0] > answers[0, 0]


def test_the_only_label_of_all_items_is_answered_with_the_shares() -> None:
    assert trained(["red", "blue"], [1, 1], [0.4, 0.6], SINGLE).logits(["red"]).exp().tolist() == [
        pytest.approx([0.4, 0.6])
    ]


@pytest.mark.parametrize("strength", [1e-4, 1e4])
def test_a_sure_answer_is_finite(strength: float) -> None:
    model = Regression(
        ngrams(),
        logistic_regression(strength),
        ["red " * 50, "blue " * 50] * 5,
        torch.tensor([0, 1] * 5),
        torch.tensor([0.5, 0.5]).log(),
        SINGLE,
    )

    assert model.logits(["red " * 500, "blue", "\u00e9\U0001f600"]).isfinite().all()


def test_balanced_training_answers_the_rare_label_more_often() -> None:
    texts, targets = ["same words"] * 20, [0] * 18 + [1] * 2

    plain, balanced = (trained(texts, targets, [0.9, 0.1], SINGLE, each) for each in (False, True))

    assert plain.logits(["same words"]).softmax(dim=1)[0, 1] == pytest.approx(0.1, abs=0.02)
    assert balanced.logits(["same words"]).softmax(dim=1)[0, 1] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("rows", [[[0.0] * 5] * 4, [[0.0] * 5, [1.0] * 5] * 2, [[1.0, 2.0, 3.0, 4.0, 5.0]] * 2])
def test_equal_pictures_are_no_error(rows: list[list[float]]) -> None:
    inputs = np.array(rows, dtype=np.float32)

    model = trained(inputs, [row % 2 for row in range(len(rows))], [0.5, 0.5], SINGLE)

    assert model.logits(inputs).isfinite().all()
