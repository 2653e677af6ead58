"""The model of retrieval: unit vectors, nothing from an absent modality, a start at the sum of the features."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import normalize

from training.config import TaskConfig
from training.data.examples import Example
from training.data.splits import load_data
from training.learning.batches import PairCollator, RawInputs
from training.learning.runs import build
from training.model.classifier import MissingModalityClassifier
from training.model.retriever import MissingModalityRetriever, sum_of_features

Make = Callable[..., TaskConfig]


def test_a_weight_of_the_sum_adds_features_of_norm_one() -> None:
    image, text = torch.tensor([3.0, 4.0]), torch.tensor([0.0, -0.5])

    weight = sum_of_features(2, image_norm=5.0, text_norm=0.5)

    expected = normalize(image / 5 + text / 0.5, dim=0)
    torch.testing.assert_close(normalize(weight @ torch.cat([image, text]), dim=0), expected)
    assert float(weight[0, 0] * weight[0, 2]) == pytest.approx(1)


def test_queries_and_targets_are_unit_vectors_of_what_they_have(retrieval_config: Make) -> None:
    config = retrieval_config(train={"modality_dropout": 0.5})
    model, preprocessor = build(config, 0)
    model.eval()
    collator = PairCollator(RawInputs(preprocessor), (), config.problem)
    pairs = load_data(config).train.items[:6]
    batch = collator(pairs)

    output = model(**batch)

    assert isinstance(model, MissingModalityRetriever)
    assert output["logits"].shape == (6, 2, 24)
    torch.testing.assert_close(output["logits"].norm(dim=-1), torch.ones(6, 2))
    assert output["loss"].isfinite()
    assert "loss" not in model(**{name: value for name, value in batch.items() if name != "labels"})
    image = model.image_features(preprocessor.image(pairs[2].image).unsqueeze(0))  # it has no text
    torch.testing.assert_close(output["logits"][2, 0], normalize(image[0], dim=0), atol=1e-5, rtol=0)
    text = model.text_features(*preprocessor.texts([pairs[1].text]))  # it has no image
    torch.testing.assert_close(output["logits"][1, 0], normalize(text[0], dim=0), atol=1e-5, rtol=0)


def test_an_absent_modality_moves_no_weight(retrieval_config: Make) -> None:
    config = retrieval_config()
    model, preprocessor = build(config, 0)
    items = [Example(row, None, f"query {row}", (), target=Example(row, None, f"target {row}", ())) for row in range(3)]

    model(**PairCollator(RawInputs(preprocessor), (), config.problem)(items))["loss"].backward()

    image, text = model.head.weight.grad.chunk(2, dim=1)
    assert not image.any()
    assert text.abs().sum() > 0


def test_the_trained_parameters_are_those_of_a_classifier(retrieval_config: Make, make_config: Make) -> None:
    model, _ = build(retrieval_config(), 0)
    other, _ = build(make_config(), 3)

    assert isinstance(other, MissingModalityClassifier)
    assert not isinstance(other, MissingModalityRetriever)
    assert model.state_dict().keys() == other.state_dict().keys()
    assert model.state_dict()["head.weight"].shape == (24, 48)
