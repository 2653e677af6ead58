"""Parameters counted from config.json are those of the built model, for every method and both families."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPConfig, SiglipConfig

from training.config import ImportedConfig, MoRAConfig, TaskConfig
from training.errors import BackboneError
from training.model.backbone_sizes import adapter_parameters, read_sizes, split_layers
from training.model.backbones import empty_backbone, load_backbone_config
from training.model.classifier import MissingModalityClassifier

Make = Callable[..., TaskConfig]
IMPORTED = ImportedConfig(kind="peft", sha256="", head="taken", first_image_layer=1, first_text_layer=0)
MODULES = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
FIELDS: dict[str, dict[str, Any]] = {
    "mora": {},
    "official": {
        "mora": {"parametrization": "official", "rank": 2, "target_modules": ["k_proj", "out_proj", "q_proj"]}
    },
    "every module": {"mora": {"target_modules": MODULES}},
    "the mlp, official": {"mora": {"parametrization": "official", "target_modules": ["fc2", "fc1"], "first_layer": 0}},
    "the mlp without shared": {"mora": {"without": "shared", "target_modules": ["fc1"]}},
    "the mlp without specific": {"mora": {"without": "specific", "target_modules": ["fc2"]}},
    "every module, lora": {"method": "lora", "mora": {"target_modules": MODULES}},
    "every module, dora": {"method": "dora", "mora": {"target_modules": MODULES}},
    "without shared": {"mora": {"without": "shared"}},
    "without specific": {"mora": {"without": "specific", "parametrization": "official"}},
    "without gram": {"mora": {"without": "gram", "first_layer": 0}},
    "lora": {"method": "lora"},
    "dora": {"method": "dora", "mora": {"rank": 3}},
    "bitfit": {"method": "bitfit"},
    "full": {"method": "full"},
    "head": {"method": "head"},
    "imported": {"method": "head", "imported": IMPORTED.model_dump()},
}


@pytest.mark.parametrize("backbone", ["tiny_backbone", "tiny_siglip"])
@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
@pytest.mark.slow
def test_the_counts_are_the_models(
    make_config: Make, request: pytest.FixtureRequest, backbone: str, fields: dict[str, Any]
) -> None:
    folder = str(request.getfixturevalue(backbone))
    config = make_config(backbone=folder, **fields)
    with torch.device("meta"):
        model = MissingModalityClassifier(empty_backbone(load_backbone_config(folder)), config, 3)

    sizes = read_sizes(folder)

    head = (2 * sizes.features + 1) * 3
    assert head == sum(value.numel() for value in model.head.parameters())
    assert adapter_parameters(config, sizes) == model.trainable_parameters() - head
    assert (sizes.image.layers, sizes.text.layers) == (4, 3) if backbone == "tiny_backbone" else True


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (CLIPConfig, {}),
        (CLIPConfig, {"projection_dim": 384, "vision_config": {"patch_size": 14, "num_hidden_layers": 2}}),
        (CLIPConfig, {"text_config": {"hidden_size": 256, "num_attention_heads": 4, "vocab_size": 1000}}),
        (SiglipConfig, {}),
        (SiglipConfig, {"vision_config": {"image_size": 384, "patch_size": 14}}),
        (SiglipConfig, {"text_config": {"vocab_size": 256000, "intermediate_size": 512}}),
    ],
)
@pytest.mark.parametrize("only_differences", [True, False])
def test_the_parameters_are_those_of_transformers_model(
    tmp_path: Path, kind: type, fields: dict[str, Any], only_differences: bool
) -> None:
    config = kind(**fields)
    values = {**fields, "model_type": config.model_type} if only_differences else config.to_dict()
    (tmp_path / "config.json").write_text(json.dumps(values))
    with torch.device("meta"):
        model = empty_backbone(config)

    assert read_sizes(str(tmp_path)).parameters() == sum(value.numel() for value in model.parameters())


def test_fields_of_old_releases_are_read_as_by_transformers(tmp_path: Path) -> None:
    values = {"model_type": "clip", "text_config_dict": {"hidden_size": 64, "num_attention_heads": 4}}
    (tmp_path / "config.json").write_text(json.dumps(values))

    assert read_sizes(str(tmp_path)).text.width == 64


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model_type": "bert"}, "is a bert model; only CLIP and SigLIP can be adapted"),
        ({"model_type": "siglip", "text_config": {"projection_size": 5}}, "choose one whose features have one size"),
        ({"model_type": "siglip", "vision_config": {"vision_use_head": False}}, "has no attention pooling"),
        ({"model_type": "clip", "text_config": {"hidden_act": "relu"}}, r"the activation relu .* cannot be exported"),
        ({"model_type": "clip", "vision_config": {"hidden_act": "gelu_10"}}, "one of gelu, gelu_fast, .*, quick_gelu"),
        ({"model_type": "siglip", "vision_config": {"hidden_act": "silu"}}, "the activation silu"),
        ({}, "does not hold a whole transformers model"),
        ([], "does not hold a whole transformers model"),
        (
            {"model_type": "clip", "vision_config": {"image_size": [64, 64]}},
            r"vision_config\.image_size is \[64, 64\], not",
        ),
        ({"model_type": "clip", "vision_config": {"patch_size": 0}}, r"vision_config\.patch_size is 0, not a whole"),
        ({"model_type": "clip", "text_config": {"hidden_size": "x"}}, r"text_config\.hidden_size is 'x', not"),
        (
            {"model_type": "clip", "text_config": {"num_attention_heads": 7}},
            "512 is no multiple of num_attention_heads 7",
        ),
        ({"model_type": "siglip", "vision_config": [1]}, "whose vision_config is no object"),
        ({"model_type": "clip", "projection_dim": "a"}, "whose projection_dim is 'a', not a whole number above 0"),
    ],
)
def test_a_backbone_that_cannot_be_adapted_is_refused_as_in_training(tmp_path: Path, values: Any, says: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(values))

    with pytest.raises(BackboneError, match=says):
        read_sizes(str(tmp_path))


@pytest.mark.parametrize(
    ("mora", "says"),
    [
        ({"first_layer": 3}, "the shallower tower has 3 layers"),
        ({"target_modules": ["qkv"]}, "the backbone has no qkv; it has fc1, fc2, k_proj, out_proj, q_proj, v_proj"),
        ({"target_modules": ["q_proj", "fc3", "fc1"]}, "the backbone has no fc3; it has fc1, fc2"),
    ],
)
def test_a_wrong_layer_or_module_has_the_message_of_training(
    make_config: Make, mora: dict[str, Any], says: str
) -> None:
    config = make_config(mora=mora)
    backbone = load_backbone_config(config.backbone)

    with pytest.raises(BackboneError, match=says) as counted:
        adapter_parameters(config, read_sizes(config.backbone))
    with torch.device("meta"), pytest.raises(BackboneError) as built:
        MissingModalityClassifier(empty_backbone(backbone), config, 3)

    assert str(counted.value) == str(built.value)


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
