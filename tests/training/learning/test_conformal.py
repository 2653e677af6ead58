"""Label sets that are calibrated for each presence pattern keep their promise where pooled ones do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_store import Calibration, Pattern, Problem
from training.learning.calibration import Answers
from training.learning.conformal import COVERAGES, calibrated_sets, set_scores, smallest_rule

CALIBRATIONS = dict.fromkeys(Pattern, Calibration())
NOISE = {Pattern.BOTH: 0.5, Pattern.IMAGE: 3.0, Pattern.TEXT: 1.0}  # pictures alone say little
CLASSES = 5


def answers(pattern: Pattern, count: int, seed: int, problem: Problem = Problem.SINGLE_LABEL) -> Answers:
    generator = torch.Generator().manual_seed(100 * seed + [*Pattern].index(pattern))
    if problem is Problem.MULTI_LABEL:
        targets = (torch.rand(count, CLASSES, generator=generator) < 0.3).float()
        logits = 4 * targets - 2 + NOISE[pattern] * torch.randn(count, CLASSES, generator=generator)
    else:
        targets = torch.randint(CLASSES, (count,), generator=generator)
        logits = 3 * torch.nn.functional.one_hot(targets, CLASSES) + NOISE[pattern] * torch.randn(
            count, CLASSES, generator=generator
        )
    return Answers(logits, targets, torch.arange(count))


def split(count: int, seed: int, problem: Problem = Problem.SINGLE_LABEL) -> dict[Pattern, Answers]:
    return {pattern: answers(pattern, count, seed, problem) for pattern in Pattern}


@pytest.mark.parametrize("coverage", COVERAGES)
@pytest.mark.parametrize("problem", [Problem.SINGLE_LABEL, Problem.MULTI_LABEL])
@pytest.mark.slow
def test_the_promise_is_kept_for_each_pattern(problem: Problem, coverage: float) -> None:
    covered: dict[Pattern, list[float]] = {pattern: [] for pattern in Pattern}
    for seed in range(20):
        learning, known, test = (split(200, 3 * seed + part, problem) for part in range(3))
        sets = calibrated_sets(learning, known, CALIBRATIONS, problem)
        for pattern in Pattern:
            found = set_scores(sets, test[pattern], pattern, CALIBRATIONS[pattern], problem, coverage)
            covered[pattern].append(found.covered)
    for values in covered.values():
        assert np.mean(values) >= coverage - 0.01


def test_pooled_calibration_misses_the_promise_on_images() -> None:
    covered = []
    for seed in range(20):
        learning, known, test = (split(200, 3 * seed + part) for part in range(3))
        pooled = Answers(
            *(torch.cat([getattr(each, name) for each in known.values()]) for name in ("logits", "targets", "item"))
        )
        sets = calibrated_sets(learning, dict.fromkeys(Pattern, pooled), CALIBRATIONS, Problem.SINGLE_LABEL)
        image = Pattern.IMAGE
        covered.append(set_scores(sets, test[image], image, CALIBRATIONS[image], Problem.SINGLE_LABEL, 0.9).covered)
    assert np.mean(covered) < 0.87


def test_items_without_a_picture_get_larger_sets_and_more_review() -> None:
    sets = calibrated_sets(split(300, 1), split(300, 2), CALIBRATIONS, Problem.SINGLE_LABEL)
    test = split(300, 3)
    both, image = (
        set_scores(sets, test[pattern], pattern, CALIBRATIONS[pattern], Problem.SINGLE_LABEL, 0.9)
        for pattern in (Pattern.BOTH, Pattern.IMAGE)
    )
    assert image.size > both.size >= 1
    assert image.review > both.review
    assert both.accuracy > 0.9


@pytest.mark.parametrize("items", [0, 3, 8])
def test_few_items_support_little_and_none_nothing(items: int) -> None:
    sets = calibrated_sets(split(50, 1), split(items, 2), CALIBRATIONS, Problem.SINGLE_LABEL)
    if items == 0:
        assert sets is None
        return
    assert sets.highest_coverage(Pattern.TEXT) == pytest.approx(np.floor(1000 * items / (items + 1)) / 1000)
    found = set_scores(sets, split(9, 3)[Pattern.TEXT], Pattern.TEXT, Calibration(), Problem.SINGLE_LABEL, 0.95)
    assert found is None


def test_a_pattern_that_no_calibration_item_has_has_no_sets() -> None:
    known = split(50, 2) | {Pattern.IMAGE: answers(Pattern.IMAGE, 0, 0)}
    sets = calibrated_sets(split(50, 1), known, CALIBRATIONS, Problem.SINGLE_LABEL)
    assert sets.highest_coverage(Pattern.IMAGE) is None
    assert sets.highest_coverage(Pattern.TEXT) is not None


def test_the_temperature_is_that_of_the_pattern() -> None:
    """A temperature changes the scores, and with them the quantile, but hardly the sets."""
    calibrations = {pattern: Calibration(temperature=4.0) for pattern in Pattern}
    test, sizes = answers(Pattern.TEXT, 300, 3), []
    for each in (CALIBRATIONS, calibrations):
        sets = calibrated_sets(split(300, 1), split(300, 2), each, Problem.SINGLE_LABEL)
        found = set_scores(sets, test, Pattern.TEXT, each[Pattern.TEXT], Problem.SINGLE_LABEL, 0.9)
        assert found.covered >= 0.85
        sizes.append(found.size)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.3)


def test_sets_by_class_have_quantiles_for_each_label() -> None:
    known = split(200, 2)
    sets = calibrated_sets(split(200, 1), known, CALIBRATIONS, Problem.SINGLE_LABEL, by_class=True)
    for pattern in Pattern:
        counts = torch.bincount(known[pattern].targets, minlength=CLASSES).tolist()
        assert [each.items for each in sets.by_class[pattern]] == counts


@pytest.mark.parametrize("count", [0, 5, 19])
def test_with_few_items_the_simplest_rule_is_used(count: int) -> None:
    learning = split(count, 1)
    scores = {pattern: each.logits.softmax(-1).double().numpy() for pattern, each in learning.items()}
    assert smallest_rule(scores, learning).rule == "threshold"


def test_by_chance_no_other_rule_is_used() -> None:
    for seed in range(20):
        learning = split(60, seed)
        scores = {pattern: each.logits.softmax(-1).double().numpy() for pattern, each in learning.items()}
        assert smallest_rule(scores, learning).rule == "threshold"


def test_a_rule_with_smaller_sets_is_used_if_ranks_say_more_than_scores() -> None:
    sure, unsure = [0.97, 0.015, 0.007, 0.005, 0.003], [0.3, 0.25, 0.2, 0.15, 0.1]  # the second best label is true
    rows = np.array([sure, unsure] * 100)
    learning = {Pattern.TEXT: Answers(torch.from_numpy(rows).log(), torch.ones(200).long(), torch.arange(200) // 2)}

    assert smallest_rule({Pattern.TEXT: rows}, learning).rule == "regularised"
