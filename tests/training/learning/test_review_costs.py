"""The coverage to ask for follows the costs: dear errors send more items to a person, dear reviews fewer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from model_store import Calibration, Pattern, Problem
from model_store.label_sets import LabelSets, Quantiles
from training.config import TaskConfig
from training.data.missing import Lacks, Table
from training.learning.calibration import Answers
from training.learning.conformal import calibrated_sets
from training.learning.encoded_split import EncodedSplit
from training.learning.formed_sets import FormedSets
from training.learning.review_costs import ALWAYS, NEVER, Costs, ReviewPlan, outcome, review_plan
from training.learning.runs import TrainedTask, build

Make = Callable[..., TaskConfig]
CLASSES = 3
CALIBRATIONS = dict.fromkeys(Pattern, Calibration())
TABLE = np.array([Lacks.NOTHING, Lacks.TEXT, Lacks.IMAGE] * 200, dtype=np.int8)


def encoded(seed: int, features: int, noise: float = 1.0, items: int = 600) -> tuple[EncodedSplit, torch.Tensor]:
    """Features that the first weights of a head read as logits; those of pictures say less than those of texts."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (items,), generator=generator)
    towers = []
    for scale in (1.5, 3.0):
        tower = torch.zeros(items, features)
        tower[:, :CLASSES] = scale * torch.nn.functional.one_hot(targets, CLASSES)
        tower[:, :CLASSES] += noise * torch.randn(items, CLASSES, generator=generator)
        towers.append(tower)
    absent = torch.zeros(features), torch.zeros(features)
    return EncodedSplit(*towers, *absent, targets, np.zeros(items, dtype=np.int8)), targets


@pytest.fixture
def planned(make_config: Make) -> Callable[..., ReviewPlan]:
    """`planned(error, review)`: the plan of a task with these costs, whose scores have this noise."""
    config = make_config(problem="single_label")
    model, preprocessor = build(config, CLASSES)
    features = model.head.in_features // 2
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
        for label in range(CLASSES):
            model.head.weight[label, label] = model.head.weight[label, features + label] = 1.0

    def plan(
        error: float, review: float, noise: float = 1.0, patterns: tuple[Pattern, ...] = tuple(Pattern)
    ) -> ReviewPlan:
        learning, known, test = (encoded(seed, features, noise)[0] for seed in (1, 2, 3))
        sets = calibrated_sets(
            learning.by_pattern(model.head, TABLE),
            known.by_pattern(model.head, TABLE),
            CALIBRATIONS,
            Problem.SINGLE_LABEL,
        )
        kept = {pattern: own for pattern, own in sets.by_pattern.items() if pattern in patterns}
        sets = sets.model_copy(update={"by_pattern": kept})
        trained = TrainedTask(config, ("a", "b", "c"), "", {}, CALIBRATIONS, model, preprocessor, sets)
        tables: Mapping[str, Table] = dict.fromkeys(("validation", "test"), TABLE)
        return review_plan(trained, {"validation": learning, "test": test}, tables, Costs(error, review))

    return plan


def test_dearer_errors_ask_for_a_higher_coverage(planned: Callable[..., ReviewPlan]) -> None:
    plans = [planned(error, 1) for error in (3, 10, 30)]

    assert all(plan.pays for plan in plans)
    coverages = [plan.coverage for plan in plans]
    assert coverages == sorted(coverages)
    assert coverages[0] < coverages[-1]
    reviewed = [plan.test[f"coverage {plan.coverage:g}"]["overall"].reviewed for plan in plans]
    wrong = [plan.test[f"coverage {plan.coverage:g}"]["overall"].wrong for plan in plans]
    assert reviewed == sorted(reviewed)
    assert wrong == sorted(wrong, reverse=True)


@pytest.mark.parametrize(("error", "review"), [(3, 1), (10, 1), (5, 0.5), (120, 4)])
def test_the_coverage_costs_least_on_validation_and_less_than_both_others_on_test(
    planned: Callable[..., ReviewPlan], error: float, review: float
) -> None:
    plan = planned(error, review)
    name = f"coverage {plan.coverage:g}"

    assert plan.expected[name].cost < min(plan.expected["no review"].cost, plan.expected["review of all"].cost)
    assert plan.test[name]["overall"].cost < plan.test["no review"]["overall"].cost
    assert plan.test["review of all"]["overall"] == (600, 1.0, 0.0, review)
    assert plan.test["no review"]["overall"].reviewed == 0
    for view in plan.test[name].values():
        assert view.cost == pytest.approx(error * view.wrong + review * view.reviewed)
    mean = np.mean([plan.test[name][pattern.value].cost for pattern in Pattern])  # each has a third of the items
    assert plan.test[name]["overall"].cost == pytest.approx(mean)


@pytest.mark.parametrize("scale", [0.01, 1, 1000])
def test_only_the_ratio_of_the_costs_counts(planned: Callable[..., ReviewPlan], scale: float) -> None:
    assert planned(10 * scale, scale).coverage == planned(10, 1).coverage


@pytest.mark.parametrize(
    ("error", "review", "noise", "cheapest"),
    [(1, 1, 1.0, "no review"), (1, 5, 1.0, "no review"), (1e6, 1, 3.0, "review of all"), (10, 1, 0.0, "no review")],
)
def test_a_coverage_that_does_not_pay_is_not_asked_for(
    planned: Callable[..., ReviewPlan], error: float, review: float, noise: float, cheapest: str
) -> None:
    plan = planned(error, review, noise)

    assert not plan.pays
    assert plan.cheapest == cheapest


@pytest.mark.parametrize("patterns", [(), (Pattern.TEXT,), (Pattern.BOTH, Pattern.TEXT)])
def test_items_without_label_sets_are_reviewed_and_counted(
    planned: Callable[..., ReviewPlan], patterns: tuple[Pattern, ...]
) -> None:
    plan = planned(10, 1, patterns=patterns)

    assert plan.unsupported == {pattern.value: 200 for pattern in Pattern if pattern not in patterns}
    assert (plan.coverage is None) is (patterns == ())
    if plan.coverage is not None:
        assert plan.test[f"coverage {plan.coverage:g}"]["image"].reviewed == 1


@pytest.mark.parametrize(
    ("coverage", "expected"), [(NEVER, (4, 0, 0.5, 5.0)), (0.5, (4, 0.25, 0.25, 2.75)), (ALWAYS, (4, 1, 0, 1.0))]
)
def test_an_outcome_counts_reviews_and_errors(coverage: float, expected: tuple[float, ...]) -> None:
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.1, 0.9]])
    sets = LabelSets(by_pattern={"text": Quantiles(items=1, values=(0.6,))})
    known = Answers(scores.log(), torch.tensor([0, 1, 1, 1]), torch.arange(4))
    formed = FormedSets(sets, known, Pattern.TEXT, Calibration(), Problem.SINGLE_LABEL)

    assert outcome({Pattern.TEXT: formed}, coverage, Costs(error=10, review=1)) == pytest.approx(expected)
