"""Label sets of items with known labels: their scores at a coverage agree with the sets that the service forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_store import Calibration, Pattern, Problem
from model_store.label_sets import LabelSets, Quantiles, quantiles
from training.learning.calibration import Answers
from training.learning.formed_sets import FormedSets, SetScores

SINGLE, MULTI = Problem.SINGLE_LABEL, Problem.MULTI_LABEL
RULES = [
    LabelSets(rule="threshold", by_pattern={}),
    LabelSets(rule="adaptive", by_pattern={}),
    LabelSets(rule="regularised", penalty=0.1, free_ranks=1, by_pattern={}),
]


def answers(scores: list[list[float]], targets: list) -> Answers:
    """Of items with these scores, whose temperature is 1."""
    return Answers(torch.tensor(scores, dtype=torch.float64).log(), torch.tensor(targets), torch.arange(len(targets)))


def formed(sets: LabelSets, known: Answers, problem: Problem = SINGLE, temperature: float = 1.0) -> FormedSets:
    return FormedSets(sets, known, Pattern.TEXT, Calibration(temperature=temperature), problem)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.45, SetScores(items=4, covered=0.75, size=1.0, review=0.0, accuracy=0.75)),
        (0.66, SetScores(items=4, covered=1.0, size=1.5, review=0.5, accuracy=1.0)),
        (0.94, SetScores(items=4, covered=1.0, size=2.75, review=1.0, accuracy=None)),
    ],
)
def test_scores_of_single_labels_are_counted(threshold: float, expected: SetScores) -> None:
    scores = [[0.7, 0.2, 0.1], [0.6, 0.35, 0.05], [0.3, 0.1, 0.6], [0.5, 0.36, 0.14]]
    sets = LabelSets(by_pattern={"text": Quantiles(items=1, values=(threshold,))})

    assert formed(sets, answers(scores, [0, 0, 2, 1])).scores(0.5) == expected


@pytest.mark.parametrize(
    ("targets", "covered", "accuracy"),
    [
        ([[1, 1, 0], [0, 0, 1], [0, 0, 0]], (0.5 + 0 + 1) / 3, 0.5),
        ([[1, 0, 0], [1, 0, 0], [0, 0, 1]], (1 + 1 + 0) / 3, 1.0),
        ([[0, 1, 0], [0, 0, 0], [1, 0, 0]], (0 + 1 + 0) / 3, 0.0),
    ],
)
def test_scores_of_several_labels_are_shares_of_true_labels(
    targets: list[list[int]], covered: float, accuracy: float
) -> None:
    """The sets are the first label, the first label, and none, which a person reviews."""
    logits = torch.tensor([[2.0, -2, -2], [1.0, -1, -1], [-3.0, -3, -3]])
    sets = LabelSets(by_pattern={"text": Quantiles(items=1, values=(0.4,))})

    found = formed(sets, Answers(logits, torch.tensor(targets), torch.arange(3)), MULTI).scores(0.5)

    assert found == pytest.approx((3, covered, 2 / 3, 1 / 3, accuracy))


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("sets", RULES, ids=lambda sets: sets.rule)
def test_the_sets_are_those_of_each_item_alone(sets: LabelSets, coverage: float) -> None:
    rng = np.random.default_rng(0)
    logits, targets = torch.from_numpy(rng.normal(size=(60, 5)) * 2), torch.from_numpy(rng.integers(5, size=60))
    scores = (logits / 1.5).softmax(dim=-1).numpy()
    of_truth = sets.nonconformity(scores)[np.arange(60), targets.numpy()]
    sets = sets.model_copy(update={"by_pattern": {"text": quantiles(of_truth)}})

    items = formed(sets, Answers(logits, targets, torch.arange(60)), temperature=1.5)

    alone = np.stack([sets.members(row, "text", coverage, single=True) for row in scores])
    assert items.members(coverage).tolist() == alone.tolist()
    assert items.sure(coverage).tolist() == (alone.sum(axis=1) == 1).tolist()
    assert items.covered(coverage).tolist() == alone[np.arange(60), targets.numpy()].tolist()


@pytest.mark.parametrize(("count", "coverage", "is_known"), [(9, 0.9, True), (9, 0.901, False), (0, 0.5, False)])
def test_a_coverage_beyond_the_calibration_items_has_no_scores(count: int, coverage: float, is_known: bool) -> None:
    by_pattern = {"text": quantiles(np.linspace(0, 1, count))} if count else {}
    items = formed(LabelSets(by_pattern=by_pattern), answers([[0.5, 0.5]], [0]))

    assert items.supports(coverage) is is_known
    assert (items.scores(coverage) is not None) is is_known


@pytest.mark.parametrize("problem", [SINGLE, MULTI])
def test_no_items_have_no_scores(problem: Problem) -> None:
    targets = torch.zeros(0, 3) if problem is MULTI else torch.zeros(0, dtype=torch.long)
    sets = LabelSets(by_pattern={"text": quantiles(np.linspace(0, 1, 9))})

    assert formed(sets, Answers(torch.zeros(0, 3), targets, torch.arange(0)), problem).scores(0.5) is None
