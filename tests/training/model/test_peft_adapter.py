"""PEFT's own adapters: the merged towers answer as PEFT's model on every presence pattern, or the import is refused.

Covers training.model.peft_merge.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    SiglipTextModel,
    SiglipVisionModel,
)

from training.errors import SourceError
from training.model.backbones import load_backbone, load_backbone_config
from training.model.file_names import CONFIG, WEIGHTS
from training.model.import_source import read_source
from training.model.preprocessing import Preprocessor
from training.model.towers import Backbone

pytestmark = [  # the warnings of peft where an adapter is made here
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:(PiSSA|OLoRA) changes the base weights:UserWarning"),
    pytest.mark.filterwarnings("ignore:(`init_lora_weights` is 'eva'|lora with eva init):UserWarning"),
    pytest.mark.filterwarnings("ignore:Adapter 'default'. .* invalid shape:UserWarning"),  # of a bias of lora_B
]
QUERIES = ["q_proj", "v_proj"]
CONVERSION = "path_initial_model_for_weight_conversion"


def trained(model: nn.Module, by: float = 0.05) -> nn.Module:
    """Move every trainable parameter, as training would."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value += by * torch.randn(value.shape, generator=generator)
    return model.eval()


@torch.no_grad()
def features(towers: nn.Module, backbone: Path) -> Tensor:
    """Of a picture and a text, and of the white picture and the empty text: all that the presence patterns need."""
    preprocessor = Preprocessor(str(backbone), load_backbone_config(str(backbone)))
    white = preprocessor.image(None)
    noise = torch.randn(white.shape, generator=torch.Generator().manual_seed(1))
    image = towers.get_image_features(pixel_values=torch.stack([noise, white])).pooler_output
    texts = [preprocessor.texts([text]).input_ids for text in ("a red picture", None)]
    return torch.cat([image, *(towers.get_text_features(input_ids=ids).pooler_output for ids in texts)])


def edit(folder: Path, **values: Any) -> None:
    described = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**described, **values}))


@pytest.fixture
def adapter(tiny_backbone: Path, tmp_path: Path) -> Path:
    """A LoRA of both towers, as PEFT writes it."""
    adapted = peft.get_peft_model(load_backbone(str(tiny_backbone)), peft.LoraConfig(r=2, target_modules=QUERIES))
    trained(adapted).save_pretrained(tmp_path / "lora")
    return tmp_path / "lora"


MERGED = {
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "eva": {"init_lora_weights": "eva"},
    "random": {"init_lora_weights": False},
    "rank-stabilised": {"use_rslora": True},
    "dora": {"use_dora": True, "lora_alpha": 7},
    "patterns": {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 3}},
    "modules to save": {"modules_to_save": ["visual_projection", "post_layernorm"]},
    "all biases": {"bias": "all"},
    "biases of the adapted": {"bias": "lora_only"},
    "bias of B": {"lora_bias": True},
    "one layer": {"layers_to_transform": [1]},
    "text tower": {"target_modules": r"text_model.*\.(q_proj|fc1)"},
    "image tower": {"target_modules": r"vision_model.*\.(q_proj|fc1)"},
    "all linear": {"target_modules": "all-linear"},
    "embeddings": {"target_modules": ["token_embedding", "position_embedding", "patch_embedding"]},
    "tokens": {"trainable_token_indices": {"token_embedding": [2, 3]}},
}


@pytest.mark.parametrize("kind", MERGED)
@pytest.mark.slow
def test_the_merged_towers_answer_as_pefts_model(tiny_backbone: Path, tmp_path: Path, kind: str) -> None:
    config = peft.LoraConfig(**{"r": 2, "target_modules": QUERIES, **MERGED[kind]})
    adapted = trained(peft.get_peft_model(load_backbone(str(tiny_backbone)), config))
    adapted.save_pretrained(tmp_path / "adapter")

    towers = read_source(tmp_path / "adapter", str(tiny_backbone)).towers.eval()

    expected = features(adapted, tiny_backbone)
    torch.testing.assert_close(features(towers, tiny_backbone), expected, atol=1e-5, rtol=0)
    unadapted = features(load_backbone(str(tiny_backbone)), tiny_backbone)
    assert float((unadapted - expected).abs().max()) > 1e-3


@pytest.mark.parametrize(
    "initialisation", ["pissa", "pissa_niter_4", "olora", "PiSSA", "corda", "lora_ga", "unheard_of"]
)
def test_an_adapter_of_a_changed_backbone_is_refused_with_the_conversion(
    tiny_backbone: Path, adapter: Path, initialisation: str
) -> None:
    edit(adapter, init_lora_weights=initialisation)

    with pytest.raises(SourceError, match=f"init_lora_weights {initialisation}.*{CONVERSION}.*merge_and_unload"):
        read_source(adapter, str(tiny_backbone))


@pytest.mark.parametrize("initialisation", ["pissa", "pissa_niter_4", "olora"])
def test_the_conversion_that_the_refusal_names_can_be_imported(
    tiny_backbone: Path, tmp_path: Path, initialisation: str
) -> None:
    config = peft.LoraConfig(r=2, target_modules=QUERIES, init_lora_weights=initialisation)
    adapted = peft.get_peft_model(load_backbone(str(tiny_backbone)), config)
    adapted.save_pretrained(tmp_path / "untrained")
    trained(adapted)
    adapted.save_pretrained(tmp_path / "own")
    adapted.save_pretrained(tmp_path / "converted", **{CONVERSION: str(tmp_path / "untrained")})

    towers = read_source(tmp_path / "converted", str(tiny_backbone)).towers.eval()

    torch.testing.assert_close(features(towers, tiny_backbone), features(adapted, tiny_backbone), atol=1e-4, rtol=0)
    with pytest.raises(SourceError, match=CONVERSION):
        read_source(tmp_path / "own", str(tiny_backbone))


def test_the_residual_backbone_that_an_adapter_names_is_not_the_configured_one(
    tiny_backbone: Path, tmp_path: Path
) -> None:
    """PiSSA's authors save the changed backbone, and train an ordinary LoRA on it."""
    config = peft.LoraConfig(r=2, target_modules=QUERIES, init_lora_weights="pissa")
    peft.get_peft_model(load_backbone(str(tiny_backbone)), config).unload().save_pretrained(tmp_path / "residual")
    adapted = peft.get_peft_model(load_backbone(str(tmp_path / "residual")), peft.LoraConfig(target_modules=QUERIES))
    trained(adapted).save_pretrained(tmp_path / "adapter")

    with pytest.raises(SourceError, match=f"other weights than .*--backbone {tmp_path / 'residual'}"):
        read_source(tmp_path / "adapter", str(tiny_backbone))

    towers = read_source(tmp_path / "adapter", str(tmp_path / "residual")).towers.eval()
    torch.testing.assert_close(features(towers, tiny_backbone), features(adapted, tiny_backbone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("made_for", ["openai/clip-vit-base-patch32", "copy", "no model"])
def test_a_backbone_that_is_elsewhere_or_equal_is_noted(
    tiny_backbone: Path, adapter: Path, tmp_path: Path, made_for: str
) -> None:
    load_backbone(str(tiny_backbone)).save_pretrained(tmp_path / "copy")
    (tmp_path / "no model").mkdir()
    name = made_for if "/" in made_for else str(tmp_path / made_for)
    edit(adapter, base_model_name_or_path=name)

    assert f"was made for {name}" in read_source(adapter, str(tiny_backbone)).notes[0]


class OfAnotherProgram(nn.Module):
    """A tower inside a module of one's own."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.backbone = tower


def renamed(folder: Path, tower: str) -> None:
    """The names of transformers before version 5, whose CLIPTextModel holds its tower as `text_model`."""
    state = load_file(folder / WEIGHTS)
    save_file({name.replace("model.model.", f"model.model.{tower}."): state[name] for name in state}, folder / WEIGHTS)


TOWERS = {
    "CLIPTextModel": ("text_model", CLIPTextModel),
    "CLIPVisionModel": ("vision_model", CLIPVisionModel),
    "SiglipTextModel": ("text_model", SiglipTextModel),
    "SiglipVisionModel": ("vision_model", SiglipVisionModel),
}


def of_one_tower(backbone: Path, folder: Path, kind: str, form: str) -> Backbone:
    """Write an adapter of a tower's own class; the backbone with the merged tower in place."""
    name, made = TOWERS[kind]
    expected = load_backbone(str(backbone))
    tower = expected.get_submodule(name)
    own = made(getattr(expected.config, name.replace("_model", "_config")))
    own.load_state_dict(tower.state_dict())
    adapted_model = OfAnotherProgram(own) if form == "inside a module" else own
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "fc1"], bias="all")
    adapted = trained(peft.get_peft_model(adapted_model, config))
    adapted.save_pretrained(folder)
    if form == "older transformers":
        renamed(folder, name)
    if form == "class unknown":
        edit(folder, auto_mapping=None)
    adapted.merge_and_unload()
    tower.load_state_dict(own.state_dict())
    return expected.eval()


@pytest.mark.parametrize("form", ["this transformers", "older transformers", "class unknown", "inside a module"])
@pytest.mark.parametrize("kind", ["CLIPTextModel", "CLIPVisionModel"])
@pytest.mark.slow
def test_an_adapter_of_one_towers_class_adapts_that_tower_alone(
    tiny_backbone: Path, tmp_path: Path, kind: str, form: str
) -> None:
    expected = of_one_tower(tiny_backbone, tmp_path / "adapter", kind, form)

    towers = read_source(tmp_path / "adapter", str(tiny_backbone)).towers.eval()

    torch.testing.assert_close(features(towers, tiny_backbone), features(expected, tiny_backbone), atol=1e-5, rtol=0)
    unadapted = features(load_backbone(str(tiny_backbone)), tiny_backbone)
    assert float((unadapted - features(towers, tiny_backbone)).abs().max()) > 1e-3


@pytest.mark.parametrize("form", ["this transformers", "older transformers"])
@pytest.mark.parametrize("kind", ["SiglipTextModel", "SiglipVisionModel"])
def test_an_adapter_of_one_tower_of_siglip(tiny_siglip: Path, tmp_path: Path, kind: str, form: str) -> None:
    expected = of_one_tower(tiny_siglip, tmp_path / "adapter", kind, form)

    towers = read_source(tmp_path / "adapter", str(tiny_siglip)).towers.eval()

    torch.testing.assert_close(features(towers, tiny_siglip), features(expected, tiny_siglip), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("made", "modules"),
    [
        (CLIPTextModelWithProjection, ["q_proj", "text_projection"]),
        (CLIPVisionModelWithProjection, ["q_proj", "visual_projection"]),
    ],
)
def test_an_adapter_of_a_tower_with_its_projection(
    tiny_backbone: Path, tmp_path: Path, made: type, modules: list[str]
) -> None:
    backbone = load_backbone(str(tiny_backbone))
    original, sizes = backbone.state_dict(), backbone.config
    config = sizes.text_config if made is CLIPTextModelWithProjection else sizes.vision_config
    config.projection_dim = sizes.projection_dim
    own = made(config)
    own.load_state_dict({name: original[name] for name in own.state_dict()})
    adapted = trained(peft.get_peft_model(own, peft.LoraConfig(r=2, target_modules=modules)))
    adapted.save_pretrained(tmp_path / "adapter")

    towers = read_source(tmp_path / "adapter", str(tiny_backbone)).towers.state_dict()

    merged = adapted.merge_and_unload().state_dict()
    assert merged.keys() <= original.keys()
    assert all(value.allclose(merged.get(name, original[name]), atol=1e-6) for name, value in towers.items())


def test_a_tower_that_the_files_do_not_name_is_refused(tiny_siglip: Path, tmp_path: Path) -> None:
    of_one_tower(tiny_siglip, tmp_path / "adapter", "SiglipTextModel", "inside a module")
    state = load_file(tmp_path / "adapter" / WEIGHTS)
    save_file({name: value for name, value in state.items() if ".lora_" in name}, tmp_path / "adapter" / WEIGHTS)

    with pytest.raises(SourceError, match=r"does not say which tower it adapts.*base_model_class"):
        read_source(tmp_path / "adapter", str(tiny_siglip))


@pytest.mark.parametrize(
    ("package", "values"),
    [
        ("scipy", {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}),
        ("megatron", {"megatron_config": {"a": 1}}),
    ],
)
def test_a_missing_package_of_an_adapter_is_one_line(
    tiny_backbone: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, package: str, values: dict[str, Any]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    edit(adapter, **values)

    with pytest.raises(SourceError, match=f"Python package that is not installed .*{package}.*; install it") as raised:
        read_source(adapter, str(tiny_backbone))

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("package", ["bitsandbytes", "torchao", "aqlm"])
def test_a_package_that_peft_misses_while_it_adapts_is_one_line(
    tiny_backbone: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    def adapted(*_: object) -> None:
        raise ModuleNotFoundError(f"No module named '{package}'\nand more")

    monkeypatch.setattr(peft, "PeftModel", adapted)

    with pytest.raises(SourceError, match=f"not installed .No module named '{package}'.; install it, or merge it"):
        read_source(adapter, str(tiny_backbone))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"r": 0}, "should be a positive integer"),
        ({"r": "8"}, "does not fit the backbone"),
        ({"target_modules": ["nothing"]}, "not found in the base model"),
        ({"target_modules": "("}, "does not fit the backbone"),
        ({"task_type": "NOPE"}, "Invalid task type"),
        ({"alora_invocation_tokens": [1]}, "cannot be merged"),
        ({"arrow_config": {"a": 1}}, "does not fit the backbone"),
        ({"rank_pattern": {"q_proj": 5}}, "size mismatch"),
        ({"use_dora": True}, "lacks .*lora_magnitude_vector"),
        ({"bias": "all"}, r"lacks .*\.bias"),
        ({"modules_to_save": ["text_projection"]}, r"lacks .*text_projection\.weight"),
        ({"lora_alpha": float("nan")}, "not finite"),
        ({"peft_type": "ADALORA"}, "only LORA can be imported"),
        ({"use_newest": True}, "use_newest, which PEFT .* does not know"),
        ({"newest_config": {"a": 1}}, "newest_config, which PEFT .* does not know"),
        ({"newest_layers": [1]}, "newest_layers, which PEFT .* does not know"),
    ],
)
@pytest.mark.slow
def test_a_configuration_that_cannot_be_used_is_one_line(
    tiny_backbone: Path, adapter: Path, values: dict[str, Any], message: str
) -> None:
    edit(adapter, **values)

    with pytest.raises(SourceError, match=message) as raised:
        read_source(adapter, str(tiny_backbone))

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "noted"),
    [({"newest": None}, False), ({"newest": False}, False), ({"newest": 16}, True), ({"newest": "a word"}, True)],
)
def test_other_unknown_fields_are_ignored_with_a_note(
    tiny_backbone: Path, adapter: Path, values: dict[str, Any], noted: bool
) -> None:
    edit(adapter, **values)

    notes = read_source(adapter, str(tiny_backbone)).notes

    assert ["ignores: newest" in note for note in notes] == [True] * noted


@pytest.mark.parametrize("size", [0, 5, 200, -8])
def test_a_damaged_file_of_weights_is_named(tiny_backbone: Path, adapter: Path, size: int) -> None:
    weights = (adapter / WEIGHTS).read_bytes()
    (adapter / WEIGHTS).write_bytes(weights[:size])

    with pytest.raises(SourceError, match=r"adapter_model\.safetensors (is empty|is not a readable)"):
        read_source(adapter, str(tiny_backbone))


def test_pickled_weights_alone_are_refused(tiny_backbone: Path, adapter: Path) -> None:
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")

    with pytest.raises(SourceError, match="pickles are not read; save it again with save_pretrained"):
        read_source(adapter, str(tiny_backbone))


@pytest.mark.parametrize("module", ["text_model.*q_proj", "text_model.*v_proj", "vision_model.*q_proj"])
def test_an_adapter_that_merges_into_another_model_is_refused(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """Whatever its layer: the test inputs reach queries of both towers."""
    config = peft.LoraConfig(r=2, target_modules=module)
    trained(peft.get_peft_model(load_backbone(str(tiny_backbone)), config)).save_pretrained(tmp_path / "adapter")

    def wrong(layer: peft.tuners.lora.Linear, adapter: str) -> Tensor:
        return torch.full_like(layer.get_base_layer().weight, 0.01)

    monkeypatch.setattr(peft.tuners.lora.Linear, "get_delta_weight", wrong)

    with pytest.raises(SourceError, match="cannot be merged: merging moves a feature by"):
        read_source(tmp_path / "adapter", str(tiny_backbone))
