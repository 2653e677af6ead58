"""The split towers, against transformers' own forward of the whole model.

Covers training.model.backbones.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from training.config import TaskConfig
from training.errors import BackboneError
from training.model.backbones import load_backbone
from training.model.classifier import MissingModalityClassifier
from training.model.towers import ImageTail, ImageTrunk, TextTail, TextTrunk

BACKBONES = ["tiny_backbone", "tiny_siglip"]


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.mark.parametrize("split", [0, 1, 3, 4])
def test_image_features_equal_the_whole_models_for_every_split(backbone: str, split: int) -> None:
    model = load_backbone(backbone).eval()
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        split_up = ImageTail(model, split)(ImageTrunk(model, split)(pixels))
        whole = model.get_image_features(pixel_values=pixels).pooler_output

    torch.testing.assert_close(split_up, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("split", [0, 1, 2, 3])
def test_text_features_equal_the_whole_models_for_every_split(backbone: str, split: int) -> None:
    model = load_backbone(backbone).eval()
    ids = torch.randint(2, 18, (3, 12), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = 1
    last = torch.full((3,), 11)

    with torch.no_grad():
        split_up = TextTail(model, split)(TextTrunk(model, split)(ids), last)
        whole = model.get_text_features(input_ids=ids).pooler_output

    torch.testing.assert_close(split_up, whole, rtol=0, atol=1e-5)


def test_padding_changes_the_features_only_without_a_causal_mask(tiny_backbone, tiny_siglip) -> None:
    changes = []
    for path in (tiny_backbone, tiny_siglip):
        model = load_backbone(str(path)).eval()
        ids = torch.tensor([[3, 4, 5, 1]])
        padded = torch.cat([ids, torch.ones(1, 5, dtype=torch.int64)], dim=1)
        trunk, tail, last = TextTrunk(model, 1), TextTail(model, 1), torch.tensor([3])
        with torch.no_grad():
            changes.append(float((tail(trunk(padded), last) - tail(trunk(ids), last)).abs().max()))

    assert changes[0] < 1e-5
    assert changes[1] > 1e-3


@pytest.mark.parametrize(("dims", "layers"), [((768, 512), (12, 12)), ((1024, 768), (24, 12))])
def test_layers_and_widths_are_read_from_the_configuration(
    make_config: Callable[..., TaskConfig], dims: tuple[int, int], layers: tuple[int, int]
) -> None:
    """CLIP's B/32, B/16 and L/14, without weights."""
    from transformers import CLIPConfig

    from training.model.backbones import empty_backbone

    clip = CLIPConfig(
        vision_config={"hidden_size": dims[0], "num_hidden_layers": layers[0], "num_attention_heads": dims[0] // 64},
        text_config={"hidden_size": dims[1], "num_hidden_layers": layers[1], "num_attention_heads": dims[1] // 64},
        projection_dim=dims[1],
    )
    with torch.device("meta"):
        model = MissingModalityClassifier(empty_backbone(clip), make_config(), 3)

    assert (model.image_split, model.text_split) == (layers[0] - 2, layers[1] - 2)
    assert model.head.weight.shape == (3, 2 * dims[1])
    assert model.adapter.image[0]["q_proj"].p.shape == (dims[0], 4)


def test_a_backbone_of_another_kind_is_named(tmp_path) -> None:
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path)

    with pytest.raises(BackboneError, match="bert model; only CLIP and SigLIP"):
        load_backbone(str(tmp_path))
