"""The linear probe on synthetic features: its optimum, its folds and its choice of penalty and balance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model_store import Pattern, Problem
from tests.support.sampling import each
from training.data.missing import Lacks
from training.errors import DivergedError
from training.learning.class_weights import balanced_weights
from training.learning.encoded_split import EncodedSplit
from training.learning.evaluation import score
from training.learning.probe import Probe, fit_probe

SINGLE, MULTI = Problem.SINGLE_LABEL, Problem.MULTI_LABEL


@pytest.fixture(autouse=True)
def probe_grid() -> None:
    """All penalties and balances, where other tests of training try few."""


def split(items: int, seed: int, text_scale: float = 1.0, holes: float = 0.0, noise: float = 1.0) -> EncodedSplit:
    """Three classes, which image and text features (4,) both show, and constants for what is absent."""
    rng = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (items,), generator=rng)
    centres = 2 * torch.eye(3, 4)[targets]
    image, text = (centres + noise * torch.randn(items, 4, generator=rng) for _ in range(2))
    lacks = torch.randint(1, 3, (items,), generator=rng) * (torch.rand(items, generator=rng) < holes)
    return EncodedSplit(
        image,
        text_scale * text,
        torch.full((4,), 0.5),
        torch.full((4,), -text_scale),
        targets,
        lacks.numpy().astype(np.int8),
    )


def probe_of(
    train: EncodedSplit, validation: EncodedSplit, problem: Problem = SINGLE, groups: np.ndarray | None = None
) -> Probe:
    encoded = {"train": train, "validation": validation}
    tables = {name: each.natural for name, each in encoded.items()}
    groups = np.arange(len(train.targets)) if groups is None else groups
    return fit_probe(encoded, tables, groups, 3, problem, modality_dropout=0.5)


def accuracy(probe: Probe, test: EncodedSplit) -> float:
    return score(test.logits(probe.head, test.natural), test.targets, SINGLE)["accuracy"] or 0.0


@pytest.mark.parametrize(("items", "holes"), [(30, 0.0), (60, 0.4), (300, 0.2)])
@pytest.mark.slow
def test_the_probe_separates_what_its_features_separate(items: int, holes: float) -> None:
    probe = probe_of(split(items, 0, holes=holes, noise=0.4), split(20, 1, noise=0.4))

    assert accuracy(probe, split(400, 2, noise=0.4)) > 0.97


@pytest.mark.parametrize("text_scale", each([0.01, 1.0, 100.0], tried=[0.01]))
@pytest.mark.slow
def test_the_size_of_a_towers_features_does_not_matter(text_scale: float) -> None:
    train, validation, test = (split(60, seed, text_scale) for seed in (0, 1, 2))
    same = (split(60, seed) for seed in (0, 1, 2))

    probe, expected = probe_of(train, validation), probe_of(*[next(same), next(same)])

    logits = test.logits(probe.head, test.natural)
    torch.testing.assert_close(logits, split(60, 2).logits(expected.head, test.natural), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("informative", ["image", "text", "both"])
@pytest.mark.slow
def test_a_tower_that_shows_nothing_has_little_weight(informative: str) -> None:
    """The balance of the towers follows the held-out items."""

    def made(items: int, seed: int) -> EncodedSplit:
        both, noise = split(items, seed, noise=0.8), split(items, seed + 50, noise=0.8)
        silent = {"image": {"text": noise.text}, "text": {"image": noise.image}, "both": {}}[informative]
        return replace(both, **silent)

    probe = probe_of(made(45, 0), made(15, 1))

    image, text = probe.head.weight.square().sum(dim=0).reshape(2, -1).sum(dim=1).sqrt().tolist()
    assert image > 3 * text if informative == "image" else image < 3 * text
    assert text > 3 * image if informative == "text" else text < 3 * image


@pytest.mark.parametrize("rounding", each([0.0, 1e-7, 1e-5], tried=[0.0, 1e-5]))
@pytest.mark.parametrize("absent", ["image", "text"])
@pytest.mark.slow
def test_a_modality_that_no_item_has_gets_no_weight(absent: str, rounding: float) -> None:
    """Its features differ by rounding only. A weight for them would make any training of the tower diverge."""

    def made(items: int, seed: int) -> EncodedSplit:
        constant = torch.tensor([0.3, -1.7, 0.01, 5.1])
        features = constant + rounding * torch.randn(items, 4, generator=torch.Generator().manual_seed(seed))
        return replace(split(items, seed, noise=0.4), **{absent: features, f"absent_{absent}": constant})

    probe = probe_of(made(63, 0), made(15, 1))

    image, text = probe.head.weight.reshape(3, 2, 4).unbind(dim=1)
    assert not (image if absent == "image" else text).any()
    assert accuracy(probe, made(100, 2)) > 0.9


@pytest.mark.parametrize("noise", each([3.0, 8.0, 20.0], tried=[8.0]))
@pytest.mark.slow
def test_noisier_features_get_a_stronger_penalty(noise: float) -> None:
    clear = probe_of(split(60, 0, noise=0.8), split(60, 1, noise=0.8)).penalty

    penalty = probe_of(split(60, 0, noise=noise), split(60, 1, noise=noise)).penalty

    assert penalty > clear


def test_each_held_out_answer_is_of_a_head_that_did_not_see_the_item() -> None:
    """Random labels: only a head that saw an item could know its label."""
    noise, rng = split(100, 0, noise=100.0), torch.Generator().manual_seed(5)
    train = replace(noise, targets=torch.randint(3, (100,), generator=rng))

    held_out = probe_of(train, split(40, 1, noise=0.2)).held_out[Pattern.BOTH]

    of_train = held_out.where(torch.arange(len(held_out.item)) >= 40)
    assert sorted(of_train.item.tolist()) == list(range(100))
    assert float((of_train.logits.argmax(dim=1) == of_train.targets).float().mean()) < 0.5


@pytest.mark.slow
def test_items_of_one_group_are_held_out_together() -> None:
    """Ten copies of each of ten items with random labels: only a head that saw a copy could know its label."""
    rng = torch.Generator().manual_seed(0)
    image, text = (torch.randn(10, 4, generator=rng).repeat(10, 1) for _ in range(2))
    targets = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0]).repeat(10)
    copies = EncodedSplit(image, text, torch.zeros(4), torch.zeros(4), targets, np.zeros(100, dtype=np.int8))
    validation = split(12, 3)

    def known(groups: np.ndarray) -> float:
        answers = probe_of(copies, validation, groups=groups).held_out[Pattern.BOTH]
        own = answers.where(torch.arange(len(answers.item)) >= 12)
        return float((own.logits.argmax(dim=1) == own.targets).float().mean())

    assert known(np.arange(100) // 7) > 0.6
    assert known(np.arange(100) % 10) < 0.6


@pytest.mark.parametrize("groups", [[0] * 30, [3] * 29 + [4], [*range(3)] * 10], ids=["one", "two", "three"])
@pytest.mark.slow
def test_few_groups_leave_few_folds(groups: list[int]) -> None:
    probe = probe_of(split(30, 0, noise=0.4), split(10, 1, noise=0.4), groups=np.array(groups))

    held_out = len(probe.held_out[Pattern.BOTH].item)
    assert held_out == (10 if len(set(groups)) == 1 else 40)
    assert accuracy(probe, split(200, 2, noise=0.4)) > 0.9


@pytest.mark.parametrize("most", each([10, 20, 50], tried=[20]))
@pytest.mark.slow
def test_of_many_items_a_sample_chooses_the_balance_and_all_are_fitted(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    train, validation, test = split(300, 0, noise=1.5), split(100, 1, noise=1.5), split(400, 2, noise=1.5)
    cross_fitted = accuracy(probe_of(train, validation), test)
    monkeypatch.setattr("training.learning.probe.CROSS_FITTED", most)

    probe = probe_of(train, validation)

    assert len(probe.held_out[Pattern.BOTH].item) == 100
    assert accuracy(probe, test) > cross_fitted - 0.02


@pytest.mark.slow
def test_patterns_that_no_item_has_have_no_held_out_answers() -> None:
    splits = (split(30, 0), split(10, 1))
    texts = [replace(each, natural=np.full_like(each.natural, Lacks.IMAGE)) for each in splits]

    held_out = probe_of(*texts).held_out

    assert [len(held_out[pattern].item) for pattern in (Pattern.BOTH, Pattern.IMAGE, Pattern.TEXT)] == [0, 0, 40]


@pytest.mark.slow
def test_a_multi_label_probe_answers_each_label_for_itself() -> None:
    splits = (split(80, seed, noise=0.3) for seed in (0, 1, 2))
    train, validation, test = (
        replace(each, targets=torch.nn.functional.one_hot(each.targets, 3).float()) for each in splits
    )

    probe = probe_of(train, validation, MULTI)

    selected = test.logits(probe.head, test.natural) > 0
    assert float((selected == (test.targets > 0)).float().mean()) > 0.97


@pytest.mark.parametrize("problem", [Problem.SINGLE_LABEL, Problem.MULTI_LABEL])
@pytest.mark.parametrize("rare", each([3, 6, 12], tried=[6]))
@pytest.mark.slow
def test_class_weights_let_the_probe_answer_rare_labels(problem: Problem, rare: int) -> None:
    """Of the third label, few items are in train."""

    def tailed(items: int, seed: int, kept: int) -> EncodedSplit:
        whole = split(items, seed, noise=1.2)
        chosen = torch.ones(items, dtype=torch.bool)
        chosen[(whole.targets == 2).nonzero().flatten()[kept:]] = False
        targets = whole.targets[chosen]
        targets = torch.nn.functional.one_hot(targets, 3).float() if problem is MULTI else targets
        natural = whole.natural[chosen.numpy()]
        return replace(whole, image=whole.image[chosen], text=whole.text[chosen], targets=targets, natural=natural)

    train, validation, test = tailed(300, 0, rare), tailed(60, 1, 2), tailed(600, 2, 600)
    encoded = {"train": train, "validation": validation}
    tables = {name: each.natural for name, each in encoded.items()}
    weights = balanced_weights(train.targets, problem, 3)

    def recall(class_weights: torch.Tensor | None) -> float:
        groups = np.arange(len(train.targets))
        probe = fit_probe(encoded, tables, groups, 3, problem, 0.5, class_weights)
        logits = test.logits(probe.head, test.natural)
        is_rare = test.targets[:, 2] > 0 if problem is MULTI else test.targets == 2
        is_answer = logits[:, 2] > 0 if problem is MULTI else logits.argmax(dim=1) == 2
        return float(is_answer[is_rare].float().mean())

    assert recall(weights) > recall(None) + 0.05


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["train", "validation"])
def test_features_that_are_not_finite_are_an_error(value: float, name: str) -> None:
    splits = {"train": split(40, 0), "validation": split(20, 1)}
    splits[name].image[3, 1] = value

    with pytest.raises(DivergedError, match=r"frozen features, .* not finite"):
        probe_of(**splits)
