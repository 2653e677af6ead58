"""The classifier: where its tails begin, which parameters are its state, and its answers for absent inputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from training.config import MoRAConfig, TaskConfig
from training.errors import BackboneError
from training.learning.runs import build
from training.model.classifier import split_layers

Make = Callable[..., TaskConfig]


@pytest.mark.parametrize(
    ("layers", "first", "tails"),
    [
        ((12, 12), None, (10, 10)),
        ((12, 12), 8, (8, 8)),
        ((24, 12), 10, (22, 10)),
        ((4, 3), 0, (1, 0)),
        ((1, 1), None, (0, 0)),
    ],
)
def test_both_towers_have_as_many_adapted_layers(
    layers: tuple[int, int], first: int | None, tails: tuple[int, int]
) -> None:
    assert split_layers(*layers, MoRAConfig(first_layer=first)) == tails


def test_a_first_layer_that_the_shallower_tower_lacks_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"mora\.first_layer is 12, but the shallower tower has 12 layers, 0 to 11"):
        split_layers(24, 12, MoRAConfig(first_layer=12))


def test_answers_do_not_depend_on_the_split_and_absent_inputs_share_a_row(make_config: Make) -> None:
    model, _ = build(make_config(), 3)
    model.eval()
    inputs = {
        "pixel_values": torch.randn(2, 3, 32, 32),
        "input_ids": torch.randint(2, 9, (2, 6)),
        "last_token": torch.tensor([5, 3]),
        "image_row": torch.tensor([0, 1]),  # the second item has no image
        "text_row": torch.tensor([0, 0]),
    }

    before = model(**inputs)["logits"]
    model.split_at(model.backbone, 4, 3)
    after = model(**inputs)["logits"]

    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    image, text = model.features(**{name: inputs[name] for name in ("pixel_values", "input_ids", "last_token")})
    torch.testing.assert_close(after[1], model.head(torch.cat([image[1], text[0]])), atol=1e-5, rtol=0)


def test_the_state_is_adapter_and_head_and_must_be_complete(make_config: Make) -> None:
    model, _ = build(make_config(), 3)
    state = model.state_dict()

    assert model.trainable_parameters() == sum(value.numel() for value in state.values())
    assert not any(".embeddings." in name for name in state)
    del state["head.bias"]
    with pytest.raises(BackboneError, match="does not fit"):
        model.load_state_dict(state)
