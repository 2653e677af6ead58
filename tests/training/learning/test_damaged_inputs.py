"""Scores on damaged inputs: of the patterns that the damage reaches, and the undamaged scores beside."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from model_store import Pattern
from training.data.corruptions import PICTURE_KINDS, TEXT_KINDS
from training.data.splits import load_data
from training.learning import damaged_inputs as module
from training.learning.batches import Collator, RawInputs
from training.learning.damaged_inputs import damaged_scores
from training.learning.encoded_split import encode
from training.learning.evaluation import score
from training.learning.runs import build


@pytest.fixture
def subject(make_config):
    """`subject(**fields)`: an untrained model, its test split and collator, and the metric of its problem."""

    def make(**fields: object):
        config = make_config(**fields)
        data = load_data(config)
        model, preprocessor = build(config, len(data.labels))
        collator = Collator(RawInputs(preprocessor), data.labels, config.problem)
        metric = "macro_f1" if config.problem == "multi_label" else "accuracy"
        return model.eval(), data.test, collator, config.problem, metric

    return make


@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
@pytest.mark.slow
def test_each_kind_is_scored_in_the_patterns_that_it_reaches(subject, problem):
    model, split, collator, problem, metric = subject(problem=problem)
    found = damaged_scores(model, split, collator, problem, metric)

    assert found["items"] == len(split.items)
    whole = encode(model, split, collator)
    for pattern in Pattern:
        answers = whole.of_pattern(model.head, pattern)
        assert found["undamaged"][pattern] == score(answers.logits, answers.targets, problem)[metric]
    assert found["damaged"].keys() == {*PICTURE_KINDS, *TEXT_KINDS}
    for kind, by_pattern in found["damaged"].items():
        assert by_pattern.keys() == ({"both", "image"} if kind in PICTURE_KINDS else {"both", "text"})
        assert all(scores.keys() == {"1", "2", "3"} for scores in by_pattern.values())


def test_a_damage_that_changes_nothing_scores_as_undamaged(subject, monkeypatch):
    model, split, collator, problem, metric = subject()
    monkeypatch.setattr(module, "with_damaged_picture", lambda item, kind, strength: item)
    monkeypatch.setattr(module, "with_damaged_text", lambda item, kind, strength: item)

    found = damaged_scores(model, split, collator, problem, metric)

    for by_pattern in found["damaged"].values():
        for pattern, scores in by_pattern.items():
            assert {*scores.values()} == {found["undamaged"][pattern]}


def test_only_the_damaged_modality_is_encoded_anew(subject, monkeypatch):
    model, split, collator, problem, metric = subject()
    seen = []

    def counted(model, split, collator):
        seen.append((split.name, any(item.image for item in split.items), any(item.text for item in split.items)))
        return encode(model, split, collator)

    monkeypatch.setattr(module, "encode", counted)
    damaged_scores(model, split, collator, problem, metric)

    assert seen[0] == ("test", True, True)
    assert len(seen) == 1 + 3 * (len(PICTURE_KINDS) + len(TEXT_KINDS))
    assert all(has_image != has_text for _, has_image, has_text in seen[1:])
    assert ("blurred, strength 1", True, False) in seen


@pytest.mark.parametrize("most", [1, 5, 7])
@pytest.mark.slow
def test_so_many_items_at_most_are_chosen_and_always_the_same(subject, monkeypatch, most):
    model, split, collator, problem, metric = subject()
    monkeypatch.setattr(module, "MOST_ITEMS", most)

    first, again = (damaged_scores(model, split, collator, problem, metric) for _ in range(2))

    assert first == again
    assert first["items"] == min(most, len(split.items))


def test_a_split_without_pictures_has_no_score_for_them(subject):
    model, split, collator, problem, metric = subject()
    texts = replace(split, items=[replace(item, image=None, text=item.text or "red") for item in split.items])

    found = damaged_scores(model, texts, collator, problem, metric)

    assert found["undamaged"]["image"] is None
    assert {*found["damaged"]["blurred"]["image"].values()} == {None}
    assert all(math.isfinite(value) for value in found["damaged"]["words dropped"]["text"].values())
