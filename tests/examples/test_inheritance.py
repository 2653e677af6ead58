"""The example's image tower computes what the layers it inherits compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, Dinov2Config, Dinov2Model

from examples.openclipart.augmentation import CLIP_MEAN, CLIP_STD
from examples.openclipart.inheritance import inherit_embeddings, inherit_image_tower, inherit_layer, resizing
from examples.openclipart.teachers import IMAGENET_MEAN, IMAGENET_STD

WIDTH, HIDDEN, GRID = 32, 64, 2


@pytest.fixture
def dino() -> Dinov2Model:
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=2, mlp_ratio=HIDDEN // WIDTH, image_size=14 * GRID
    )
    model = Dinov2Model(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def clip(hidden: int, layers: int = 2) -> CLIPModel:
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=hidden,
        num_attention_heads=2,
        num_hidden_layers=layers,
        image_size=8 * GRID,
        patch_size=8,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
    )
    text = CLIPTextConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=9, bos_token_id=7, eos_token_id=8
    )
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict())).eval()


@torch.no_grad()
def test_a_picture_is_embedded_as_dino_embeds_its_enlargement(dino):
    ours = clip(HIDDEN).vision_model.embeddings
    inherit_embeddings(ours, dino.embeddings)
    picture = torch.rand(2, 3, 8 * GRID, 8 * GRID)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    larger = resizing(8, 14)  # within each patch
    patches = picture.unfold(2, 8, 8).unfold(3, 8, 8)  # (B, 3, grid, grid, 8, 8)
    enlarged = (larger @ patches @ larger.T).permute(0, 1, 2, 4, 3, 5).reshape(2, 3, 14 * GRID, 14 * GRID)

    embedded = ours((picture - CLIP_MEAN) / CLIP_STD)

    torch.testing.assert_close(embedded, dino.embeddings((enlarged - mean) / std), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_layer_with_all_hidden_units_computes_what_dinos_layer_does(dino):
    ours, theirs = clip(HIDDEN).vision_model.encoder.layers[0], dino.encoder.layer[1]
    hidden = torch.randn(2, 5, WIDTH)

    inherit_layer(ours, theirs, torch.rand(HIDDEN))

    torch.testing.assert_close(ours(hidden, None), theirs(hidden), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_thinner_layer_keeps_the_hidden_units_that_matter(dino):
    model, theirs = clip(HIDDEN // 2), dino.encoder.layer[2]
    theirs.mlp.fc2.weight[:, ::2] = 0  # half of the units write nothing
    hidden = torch.randn(2, 5, WIDTH)

    inherit_image_tower(model, dino, [0, 2], torch.randn(4, 3, 8 * GRID, 8 * GRID))

    torch.testing.assert_close(model.vision_model.encoder.layers[1](hidden, None), theirs(hidden), atol=1e-4, rtol=1e-4)
