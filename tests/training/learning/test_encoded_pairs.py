"""Queries ranked over the distinct targets of a split.

Covers training.learning.feature_norms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from model_store import Pattern
from training.config import TaskConfig
from training.data.splits import load_data
from training.learning.batches import Collator, RawInputs
from training.learning.encoded_pairs import encode_pairs, rank_all
from training.learning.feature_norms import feature_norms
from training.learning.runs import build

Make = Callable[..., TaskConfig]


def test_a_rank_counts_the_targets_that_are_at_least_as_similar() -> None:
    queries = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [1.0, 0.0]])

    ranks = rank_all(queries, targets, torch.tensor([2, 2, 1]), 0.5)

    assert ranks.rank.tolist() == [2, 0, 0]
    expected = -(queries @ targets.T / 0.5).log_softmax(dim=1)[torch.arange(3), torch.tensor([2, 2, 1])]
    torch.testing.assert_close(ranks.loss, expected)


def test_a_model_that_maps_everything_to_one_vector_finds_nothing() -> None:
    same = torch.tensor([[0.6, 0.8]]).repeat(2000, 1)

    ranks = rank_all(same, same[:5], torch.arange(2000) % 5, 0.05)

    assert ranks.rank.unique().tolist() == [4]


def test_each_query_knows_the_row_of_its_target(retrieval_config: Make) -> None:
    config = retrieval_config()
    split = load_data(config).test
    model, preprocessor = build(config, 0)

    pairs = encode_pairs(model, split, Collator(RawInputs(preprocessor), (), config.problem))

    assert pairs.queries.targets.tolist() == [0, 0, *range(1, 11)], "rows 0 and 1 have the same target"
    assert len(pairs.gallery.targets) == 11
    own = pairs.targets(model.head)[pairs.queries.targets]
    for row, item in enumerate(split.items):
        target = item.target
        image = torch.zeros(24) if target.image is None else _image(model, preprocessor, target.image)
        text = torch.zeros(24) if target.text is None else model.text_features(*preprocessor.texts([target.text]))[0]
        torch.testing.assert_close(own[row], normalize(image + text, dim=0), atol=1e-5, rtol=0)


def test_a_hidden_modality_adds_nothing_to_a_query(retrieval_config: Make) -> None:
    config = retrieval_config()
    split = load_data(config).test
    model, preprocessor = build(config, 0)
    collator = Collator(RawInputs(preprocessor), (), config.problem)
    pairs = encode_pairs(model, split, collator)
    without_text = replace(split, items=[replace(item, text=None) for item in split.items if item.image is not None])

    alone = encode_pairs(model, without_text, collator)

    vectors = pairs.queries.of_pattern(model.head, Pattern.IMAGE).logits
    torch.testing.assert_close(vectors, alone.queries.of_pattern(model.head, Pattern.IMAGE).logits)
    answers = pairs.of_pattern(model.head, Pattern.IMAGE)
    torch.testing.assert_close(answers.logits, vectors @ pairs.targets(model.head).T)
    assert answers.item.tolist() == [row for row, item in enumerate(split.items) if item.image is not None]
    whole = pairs.of_pattern(model.head, Pattern.BOTH)
    both = [row in whole.item for row in answers.item]
    assert not torch.allclose(answers.logits[both], whole.logits)


@pytest.mark.parametrize("has_pictures", [True, False])
def test_the_norms_are_means_over_what_exists(retrieval_config: Make, has_pictures: bool) -> None:
    config = retrieval_config()
    split = load_data(config).test
    model, preprocessor = build(config, 0)
    texts = [side.text for side in split.sides if side.text is not None]
    if not has_pictures:
        bare = [
            replace(item, image=None, target=replace(item.target, image=None))
            for item in split.items
            if item.text is not None and item.target.text is not None
        ]
        split = replace(split, items=bare)
        texts = [side.text for side in split.sides]

    image, text = feature_norms(model, split, Collator(RawInputs(preprocessor), (), config.problem))

    expected = model.text_features(*preprocessor.texts(texts)).detach().norm(dim=1).mean()
    assert text == pytest.approx(float(expected), rel=1e-4)
    assert (image != 1.0) is has_pictures


def _image(model, preprocessor, image: bytes) -> torch.Tensor:
    return model.image_features(preprocessor.image(image).unsqueeze(0))[0]
