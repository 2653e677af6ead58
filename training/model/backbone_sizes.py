"""The sizes of a backbone, its adapted layers and its number of parameters, counted without building a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from training.config import MoRAConfig, TaskConfig
from training.errors import BackboneError
from training.model.backbone_files import ACTIVATIONS, read_config

# The values that transformers' configurations have where config.json has none.
_SHARED = {"num_hidden_layers": 12, "intermediate_size": 3072, "hidden_size": 768}
_VISION = {**_SHARED, "num_channels": 3, "image_size": 224}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "clip": {
        "projection_dim": 512,
        "vision_config": {**_VISION, "patch_size": 32},
        "text_config": {
            **_SHARED,
            "hidden_size": 512,
            "intermediate_size": 2048,
            "vocab_size": 49408,
            "max_position_embeddings": 77,
        },
    },
    "siglip": {
        "vision_config": {**_VISION, "patch_size": 16},
        "text_config": {**_SHARED, "vocab_size": 32000, "max_position_embeddings": 64},
    },
}
_SIZES = {
    *("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "projection_size"),
    *("projection_dim", "image_size", "patch_size", "num_channels", "vocab_size", "max_position_embeddings"),
}
_MODULES = ("fc1", "fc2", "k_proj", "out_proj", "q_proj", "v_proj")  # the linear modules of a layer


class Tower(NamedTuple):
    """One tower: equal layers, and the parameters outside of them."""

    layers: int
    width: int
    intermediate: int
    outside_layers: int

    def layer_parameters(self) -> int:
        """Four projections, two norms, and an MLP, all with biases."""
        return 4 * self.width**2 + 2 * self.width * self.intermediate + self.layer_biases() + 2 * self.width

    def layer_biases(self) -> int:
        """The biases of the projections, the norms and the MLP."""
        return 7 * self.width + self.intermediate

    def weight_shape(self, module: str) -> tuple[int, int]:
        """(out, in) of the weight of a linear module of a layer, by its name."""
        shapes = {"fc1": (self.intermediate, self.width), "fc2": (self.width, self.intermediate)}
        return shapes.get(module, (self.width, self.width))


@dataclass(frozen=True)
class BackboneSizes:
    """The towers of a backbone, and the size P of both towers' features."""

    image: Tower
    text: Tower
    features: int
    logit_parameters: int  # the scale, and SigLIP's bias, of the pretraining's logits

    def parameters(self) -> int:
        """The number of parameters without an adapter."""
        towers = (tower.outside_layers + tower.layers * tower.layer_parameters() for tower in (self.image, self.text))
        return sum(towers) + self.logit_parameters


def read_sizes(backbone: str) -> BackboneSizes:
    """The sizes in a backbone's config.json. Raises BackboneError."""
    values = read_config(backbone)
    family = values.get("model_type")
    is_plain = all(not values.get(f"{tower}_config_dict") for tower in ("vision", "text"))  # of old releases
    if family not in _DEFAULTS or not is_plain:
        values = _as_transformers_reads_it(backbone)
        family = str(values["model_type"])
    towers = {name: values.get(name) or {} for name in ("vision_config", "text_config")}
    if wrong := [name for name, tower in towers.items() if not isinstance(tower, dict)]:
        raise BackboneError(f"backbone: {backbone} has a config.json whose {wrong[0]} is no object; copy it again")
    vision, text = (_DEFAULTS[family][name] | tower for name, tower in towers.items())
    for name, tower in {
        "vision_config": vision,
        "text_config": text,
        "": {"projection_dim": values.get("projection_dim", 1)},
    }.items():
        _check_sizes(backbone, name, tower)
    if any(tower.get("hidden_act", ACTIVATIONS[0]) not in ACTIVATIONS for tower in (vision, text)):
        _as_transformers_reads_it(backbone)  # raises, with the reason
    if family == "clip":
        return _clip(vision, text, values.get("projection_dim", _DEFAULTS["clip"]["projection_dim"]))
    text.setdefault("projection_size", text["hidden_size"])
    if text["projection_size"] != vision["hidden_size"] or not vision.get("vision_use_head", True):
        _as_transformers_reads_it(backbone)  # raises, with the reason
    return _siglip(vision, text)


def _check_sizes(backbone: str, name: str, tower: Mapping[str, Any]) -> None:
    """Raise BackboneError for a size that is no whole number above 0, and for a width that the heads cannot share."""
    heads = tower.get("num_attention_heads", 1)
    for field in [*_SIZES & {*tower}]:
        if type(tower[field]) is not int or tower[field] < 1:
            fault = f"{name}.{field} is {tower[field]!r}, not a whole number above 0".removeprefix(".")
            raise BackboneError(f"backbone: {backbone} has a config.json whose {fault}; copy it again")
    if tower.get("hidden_size", heads) % heads:
        fault = f"{name}.hidden_size {tower['hidden_size']} is no multiple of num_attention_heads {heads}"
        raise BackboneError(f"backbone: {backbone} has a config.json whose {fault}; copy it again")


def _as_transformers_reads_it(backbone: str) -> dict[str, Any]:
    from training.model.backbones import load_backbone_config  # imports torch, which few backbones need here

    values: dict[str, Any] = load_backbone_config(backbone).to_dict()
    return values


def _clip(vision: Mapping[str, int], text: Mapping[str, int], features: int) -> BackboneSizes:
    width, words = vision["hidden_size"], text["hidden_size"]
    image_outside = (
        _patches(vision) * width + 2 * width + 4 * width + width * features
    )  # class token, norms, projection
    text_outside = _token_embeddings(text) + 2 * words + words * features
    return BackboneSizes(
        _tower(vision, _patch_weights(vision) + image_outside), _tower(text, text_outside), features, 1
    )


def _siglip(vision: Mapping[str, int], text: Mapping[str, int]) -> BackboneSizes:
    width, words = vision["hidden_size"], text["hidden_size"]
    pooling = width + 4 * (width**2 + width) + 2 * width * vision["intermediate_size"] + vision["intermediate_size"]
    image_outside = _patch_weights(vision) + width + _patches(vision) * width + 2 * width + pooling + 3 * width
    text_outside = _token_embeddings(text) + 2 * words + (words + 1) * text["projection_size"]
    return BackboneSizes(_tower(vision, image_outside), _tower(text, text_outside), width, 2)


def _tower(values: Mapping[str, int], outside_layers: int) -> Tower:
    return Tower(values["num_hidden_layers"], values["hidden_size"], values["intermediate_size"], outside_layers)


def _patches(vision: Mapping[str, int]) -> int:
    return int((vision["image_size"] // vision["patch_size"]) ** 2)


def _patch_weights(vision: Mapping[str, int]) -> int:
    return int(vision["num_channels"] * vision["patch_size"] ** 2 * vision["hidden_size"])


def _token_embeddings(text: Mapping[str, int]) -> int:
    return (text["vocab_size"] + text["max_position_embeddings"]) * text["hidden_size"]


def split_layers(image_layers: int, text_layers: int, config: MoRAConfig) -> tuple[int, int]:
    """The first adapted layer of each tower, so that both have the same number of adapted layers."""
    shallower = min(image_layers, text_layers)
    first = config.first_layer if config.first_layer is not None else max(shallower - 2, 0)
    if first >= shallower:
        raise BackboneError(
            f"mora.first_layer is {first}, but the shallower tower has {shallower} layers, 0 to {shallower - 1}"
        )
    adapted = shallower - first
    return image_layers - adapted, text_layers - adapted


def first_tail_layers(config: TaskConfig, image_layers: int, text_layers: int) -> tuple[int, int]:
    """The first layer of each tower that belongs to the task. Raises BackboneError."""
    if config.imported is not None:
        return config.imported.first_image_layer, config.imported.first_text_layer
    return (0, 0) if config.method == "full" else split_layers(image_layers, text_layers, config.mora)


def adapter_parameters(config: TaskConfig, sizes: BackboneSizes) -> int:
    """The number of trained parameters besides the head. Raises BackboneError for missing layers or modules."""
    first = first_tail_layers(config, sizes.image.layers, sizes.text.layers)
    towers = [(tower, tower.layers - split) for tower, split in zip((sizes.image, sizes.text), first, strict=True)]
    match config.method:
        case "head":
            return 0
        case "full":
            return sizes.parameters() - sizes.logit_parameters
        case "bitfit":
            return sum(layers * tower.layer_biases() for tower, layers in towers)
        case "lora" | "dora":
            return sum(layers * _low_rank_parameters(tower, config) for tower, layers in towers)
        case "mora":
            return sum(layers * _mora_parameters(tower, config.mora) for tower, layers in towers)


def check_backbone(config: TaskConfig) -> None:
    """Raise BackboneError, before any long work, unless the backbone can be adapted as configured."""
    adapter_parameters(config, read_sizes(config.backbone))


def _mora_parameters(tower: Tower, config: MoRAConfig) -> int:
    """Of one layer of a tower: its shared factor, and the magnitudes, gate and own factors of each projection."""
    total = 0 if config.without == "shared" else tower.width * config.rank
    for outputs, inputs in _target_shapes(tower, config):
        if config.without != "shared":
            inner = tower.intermediate if outputs != inputs else 0
            total += inner * config.rank + inputs + (1 if config.parametrization == "identity" else 0)
        if config.without != "specific":
            total += (outputs + inputs) * config.rank + inputs
    return total


def _low_rank_parameters(tower: Tower, config: TaskConfig) -> int:
    """Of one layer of a tower: LoRA's two factors of each projection, and DoRA's magnitude of each output."""
    magnitudes = 1 if config.method == "dora" else 0
    shapes = _target_shapes(tower, config.mora)
    return sum(config.mora.rank * (outputs + inputs) + magnitudes * outputs for outputs, inputs in shapes)


def _target_shapes(tower: Tower, config: MoRAConfig) -> list[tuple[int, int]]:
    """(out, in) of each target module's weight. Raises BackboneError when one does not exist."""
    missing = ", ".join(name for name in config.target_modules if name not in _MODULES)
    if missing:
        raise BackboneError(f"mora.target_modules: the backbone has no {missing}; it has {', '.join(_MODULES)}")
    return [tower.weight_shape(name) for name in sorted(set(config.target_modules))]
