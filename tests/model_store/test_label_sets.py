"""Label sets keep their promise: on items of the same kind as the calibration items, for each rule and coverage."""

from __future__ import annotations

import numpy as np
import pytest

from model_store.label_sets import ExpectedSets, LabelSets, Quantiles, class_quantiles, quantiles, risk_quantiles
from tests.support.sampling import each

RULES = [
    LabelSets(rule="threshold", by_pattern={}),
    LabelSets(rule="adaptive", by_pattern={}),
    LabelSets(rule="regularised", penalty=0.05, free_ranks=1, by_pattern={}),
]
COVERAGES = each([0.5, 0.8, 0.9, 0.95], tried=[0.5, 0.9])


def single(count: int, seed: int, classes: int = 6, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, C) and true labels (n,) of made-up items; the scores are confident beyond what is right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)) * sharpness
    truth = np.array([rng.choice(classes, p=softmax(row / 2)) for row in logits])
    return np.stack([softmax(row) for row in logits]), truth


def softmax(row: np.ndarray) -> np.ndarray:
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def multi(count: int, seed: int, labels: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(size=(count, labels)) ** 2
    return scores, rng.uniform(size=scores.shape) < 0.6 * scores


@pytest.mark.parametrize("coverage", COVERAGES)
@pytest.mark.parametrize("sets", RULES, ids=lambda sets: sets.rule)
@pytest.mark.slow
def test_the_true_label_is_in_the_set_as_often_as_promised(sets: LabelSets, coverage: float) -> None:
    hits = []
    for seed in range(40):
        scores, truth = single(400, seed)
        known = sets.nonconformity(scores[:200])[np.arange(200), truth[:200]]
        fitted = sets.model_copy(update={"by_pattern": {"text": quantiles(known)}})
        members = np.stack([fitted.members(row, "text", coverage, single=True) for row in scores[200:]])
        hits.append(members[np.arange(200), truth[200:]].mean())
    assert np.mean(hits) >= coverage - 0.01


@pytest.mark.parametrize("coverage", COVERAGES)
def test_no_more_than_the_promised_share_of_the_true_labels_is_missed(coverage: float) -> None:
    missed = []
    for seed in range(40):
        scores, truth = multi(400, seed)
        sets = RULES[0].model_copy(
            update={"by_pattern": {"text": risk_quantiles(RULES[0].nonconformity(scores[:200]), truth[:200])}}
        )
        members = np.stack([sets.members(row, "text", coverage, single=False) for row in scores[200:]])
        wrong = (truth[200:] & ~members).sum(axis=1) / np.maximum(truth[200:].sum(axis=1), 1)
        missed.append(wrong.mean())
    assert np.mean(missed) <= 1 - coverage + 0.01
    assert np.mean(missed) >= (1 - coverage) / 3  # the sets are not larger than they need to be


@pytest.mark.parametrize(("items", "highest"), [(1, 0.5), (9, 0.9), (10, 0.909), (19, 0.95), (99, 0.99), (5000, 0.999)])
def test_the_number_of_items_decides_the_highest_coverage(items: int, highest: float) -> None:
    values = np.random.default_rng(0).uniform(size=items)
    for found in (quantiles(values), risk_quantiles(values[:, np.newaxis], np.ones((items, 1), bool))):
        sets = LabelSets(by_pattern={"both": found})
        assert sets.highest_coverage("both") == pytest.approx(highest)
        assert found.at(highest + 0.001, 1000) is None
    assert sets.highest_coverage("image") is None


@pytest.mark.parametrize("coverage", [0.5, 0.55, 0.9])
def test_the_quantile_is_that_of_the_finite_sample(coverage: float) -> None:
    values = np.arange(1, 20, dtype=float)  # 19 items, in any order
    found = quantiles(np.random.default_rng(1).permutation(values))
    assert found.at(coverage, 1000) == np.ceil(20 * coverage)


@pytest.mark.parametrize("coverage", [0.9001, 0.9004, 0.90099])
def test_a_coverage_between_two_steps_is_rounded_up(coverage: float) -> None:
    found = quantiles(np.arange(1, 2000, dtype=float))
    assert found.at(coverage, 1000) == found.at(0.901, 1000) > found.at(0.9, 1000)


def test_the_best_label_is_always_in_the_set_of_a_single_label_task() -> None:
    sets = LabelSets(by_pattern={"text": Quantiles(items=3, values=(0.1,))})
    scores = np.array([0.3, 0.4, 0.3])
    assert sets.members(scores, "text", 0.5, single=True).tolist() == [False, True, False]
    assert sets.members(scores, "text", 0.5, single=False).tolist() == [False, False, False]


def test_a_coverage_that_the_items_do_not_support_is_an_error() -> None:
    sets = LabelSets(by_pattern={"text": quantiles(np.linspace(0, 1, 9))})
    with pytest.raises(ValueError, match="9 items do not support"):
        sets.members(np.array([0.5, 0.5]), "text", 0.95, single=True)


@pytest.mark.parametrize("beyond", [0.0, 1e-15, 1e-13, 1e-11, 5e-10, 1e-6])
def test_a_set_is_formed_for_each_coverage_that_is_called_supported(beyond: float) -> None:
    for count in range(1, 500):
        sets = LabelSets(by_pattern={"text": Quantiles(items=10_000, values=(0.5,) * count)})
        highest = sets.highest_coverage("text")
        assert sets.supports("text", highest)
        if sets.supports("text", highest + beyond):
            sets.members(np.array([0.5, 0.5]), "text", highest + beyond, single=True)


def test_each_class_keeps_the_promise_and_a_rare_one_is_in_every_set() -> None:
    scores, truth = single(3000, 5, classes=3)
    scores[:, 2] *= 0.05  # the model all but forgets a class
    known = RULES[0].nonconformity(scores)[np.arange(3000), truth]
    common = quantiles(known[:2000])
    own = tuple(class_quantiles(known[:2000][truth[:2000] == label]) for label in range(3))
    pooled, by_class = (LabelSets(by_pattern={"text": common}, by_class=by_class) for by_class in ({}, {"text": own}))
    hits = {
        name: [
            np.mean(
                [sets.members(row, "text", 0.9, single=True)[label] for row in scores[2000:][truth[2000:] == label]]
            )
            for label in range(3)
        ]
        for name, sets in (("pooled", pooled), ("by class", by_class))
    }
    assert min(hits["by class"]) >= 0.87
    assert min(hits["pooled"]) < 0.8  # the control
    rare = LabelSets(by_pattern={"text": common}, by_class={"text": (own[0], own[1], None)})
    assert all(rare.members(row, "text", 0.9, single=True)[2] for row in scores[:20])


def test_an_adaptive_set_adds_labels_until_their_scores_suffice() -> None:
    scores = np.array([[0.1, 0.6, 0.3]])
    assert RULES[1].nonconformity(scores).tolist() == [pytest.approx([1.0, 0.6, 0.9])]
    assert RULES[2].nonconformity(scores).tolist() == [pytest.approx([1.1, 0.6, 0.95])]
    assert RULES[0].nonconformity(scores).tolist() == [pytest.approx([0.9, 0.4, 0.7])]


@pytest.mark.parametrize(("name", "most"), [("by_pattern", 500), ("by_class", 50)])
def test_quantiles_beyond_a_coverage_of_one_are_refused(name, most):
    def sets(count: int) -> LabelSets:
        found = Quantiles(items=9999, values=(0.5,) * count)
        return LabelSets(
            **{"by_pattern": {"text": quantiles(np.arange(9.0))}, name: {"text": found}}
            | ({"by_class": {"text": (found, None)}} if name == "by_class" else {})
        )

    sets(most)
    with pytest.raises(ValueError, match="coverages below 1"):
        sets(most + 1)


@pytest.mark.parametrize("items", [0, 8])
def test_expected_sets_need_quantiles_for_their_coverage(items):
    expected = {"text": ExpectedSets(size=1, review=0)}
    LabelSets(by_pattern={"text": quantiles(np.linspace(0, 1, 9))}, expected=expected)

    by_pattern = {"text": quantiles(np.linspace(0, 1, items))} if items else {}
    with pytest.raises(ValueError, match=r"expected sets need quantiles for a coverage of 0\.9"):
        LabelSets(by_pattern=by_pattern, expected=expected)


def test_quantiles_of_classes_are_of_patterns_that_have_quantiles():
    own = class_quantiles(np.linspace(0, 1, 9))

    with pytest.raises(ValueError, match="by_class has a presence pattern that by_pattern lacks"):
        LabelSets(by_pattern={"both": quantiles(np.linspace(0, 1, 9))}, by_class={"text": (own, None)})


@pytest.mark.parametrize("coverage", [0.9901, 0.995, 0.9989])
def test_a_label_is_in_every_set_for_a_coverage_that_its_own_items_do_not_support(coverage):
    own = class_quantiles(np.zeros(5000))
    sets = LabelSets(by_pattern={"text": quantiles(np.zeros(5000))}, by_class={"text": (own, own, own)})
    scores = np.array([0.98, 0.01, 0.01])

    assert sets.members(scores, "text", 0.99, single=True).sum() == 1
    assert sets.members(scores, "text", coverage, single=True).sum() == 3
