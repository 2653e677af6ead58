"""The classifier: where its tails begin, which parameters are its state, and its answers for absent inputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from training.config import TaskConfig
from training.errors import BackboneError
from training.learning.runs import build

Make = Callable[..., TaskConfig]


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
