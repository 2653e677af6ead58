"""LoRA and DoRA adapters in PEFT's files: which of them can be imported, and the modules that they belong to."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import SourceError, first_few
from training.model.file_names import CONFIG, WEIGHTS
from training.model.peft_merge import MERGE_IT, check_backbone, configuration, merge
from training.model.source_files import read_description, read_tensors
from training.model.towers import Backbone

_PREFIX = "base_model.model."
_KEEP_THE_BACKBONE = (None, True, False, "gaussian", "eva", "orthogonal", "mica")  # values of init_lora_weights
_WHOLE_MODELS = ("CLIPModel", "SiglipModel")
_OF_TOWER = {"image": ("vision_model", "visual_projection"), "text": ("text_model", "text_projection")}
_IN_MODEL = re.compile(r"((?:.*?\.)?)(vision_model|visual_projection|text_model|text_projection)\.")
_TOWER_OF_CLASS = {
    "CLIPTextModel": "text_model",
    "CLIPVisionModel": "vision_model",
    "SiglipTextModel": "text_model",
    "SiglipVisionModel": "vision_model",
}
_IN_TOWER = re.compile(  # the classes of one tower have these modules at their top
    r"((?:.*?\.)?)(?:embeddings\.\w+_embedding|encoder\.layers\.\d+|pre_layrnorm|post_layernorm|final_layer_norm)\."
)


def merge_adapter(path: Path, towers: Backbone) -> tuple[dict[str, Tensor], object]:
    """Merge the adapter of a folder into the towers.

    The adapted model may be a CLIPModel or SiglipModel, one tower of it, or a module that contains one of these, beside
    a linear head in `modules_to_save`.

    Returns:
        `weight` and `bias` of the head, or {} without a head; and the name of the model that the adapter was made for.

    Raises:
        SourceError: the adapter is of another kind, is damaged, or does not fit the towers.
    """
    described = read_description(path / CONFIG)
    _check_kind(path, described)
    config = configuration(path, described)
    _check_initialisation(path, described.get("init_lora_weights"))
    check_backbone(path, described.get("base_model_name_or_path"), towers)
    state = {name.removeprefix(_PREFIX): value for name, value in read_tensors(path / WEIGHTS).items()}
    place = _place(path, state, _adapted_class(described), towers)
    head = _head(path, {name: value for name, value in state.items() if name not in place.names})
    adapter = {f"{_PREFIX}{name}": state[name] for name in place.names}
    merge(path, config, adapter, towers, place.model, place.hidden)
    return head, described.get("base_model_name_or_path")


def refuse_image_classifier(path: Path, architecture: object) -> None:
    """Raise SourceError for an image classifier: a head over two projections cannot give its answers."""
    if isinstance(architecture, str) and architecture.endswith("ForImageClassification"):
        raise SourceError(
            f"{path} is a {architecture}: it has no text tower, and its head reads the mean of the patches in place of "
            "the projected features, so its answers cannot be served. Instead, put the weights of its image "
            "tower into a CLIPModel (or SiglipModel), save_pretrained, and import that; the head is then fitted anew"
        )


def _check_kind(path: Path, described: dict[str, Any]) -> None:
    kind = described.get("peft_type")
    if kind != "LORA":
        raise SourceError(
            f"{path} is a PEFT adapter of type {kind}; only LORA can be imported, with or without use_dora. Merge this "
            "adapter yourself (merge_and_unload, save_pretrained), and import the checkpoint"
        )
    refuse_image_classifier(path, _adapted_class(described))
    if not (path / WEIGHTS).is_file():
        raise SourceError(
            f"{path} has no {WEIGHTS}, and pickles are not read; save it again with save_pretrained, which writes it"
        )


def _check_initialisation(path: Path, initialisation: object) -> None:
    """Raise SourceError for an adapter of other weights than the backbone's: those that its initialisation left.

    PEFT initialises such an adapter again when it loads it. That gives other weights for a random initialisation
    (pissa_niter), another precision, or without the data of the initialisation (corda, lora_ga).
    """
    name = initialisation.lower() if isinstance(initialisation, str) else initialisation
    if name not in _KEEP_THE_BACKBONE:
        raise SourceError(
            f"{path} was trained with init_lora_weights {initialisation}, which changes the weights of the backbone, "
            "and the changed weights are not in the folder. Convert it where it was trained (save_pretrained with "
            f"path_initial_model_for_weight_conversion, the folder of the untrained adapter), or {MERGE_IT}"
        )


def _adapted_class(described: dict[str, Any]) -> str:
    """The name of the class that was adapted; empty if PEFT did not write it."""
    mapping = described.get("auto_mapping")
    return str(mapping.get("base_model_class")) if isinstance(mapping, dict) else ""


@dataclass(frozen=True)
class _Place:
    """The tensors that belong to the towers, the module that was adapted, and the modules that it did not have."""

    names: Collection[str]
    model: nn.Module
    hidden: Collection[str] = ()


def _place(path: Path, state: dict[str, Tensor], made_from: str, towers: Backbone) -> _Place:
    """Find the adapted module by the adapted class and by the names of the tensors."""
    in_model = {name: match for name in state if (match := _IN_MODEL.match(name))}
    if made_from in _TOWER_OF_CLASS and not in_model:
        return _Place(state.keys(), towers.get_submodule(_TOWER_OF_CLASS[made_from]))
    matches = in_model or {name: match for name in state if (match := _IN_TOWER.match(name))}
    prefixes = {match[1] for match in matches.values()}
    if len(prefixes) != 1:
        raise SourceError(f"{path} holds {first_few(state)}: not the layers of one CLIP or SigLIP model")
    prefix = prefixes.pop()
    if not in_model:
        return _Place(matches.keys(), _inside(prefix, _fitting_tower(path, state, prefix, towers)))
    used = {tower for tower, names in _OF_TOWER.items() if any(match[2] in names for match in in_model.values())}
    alone = len(used) == 1 and made_from not in _WHOLE_MODELS  # PEFT would put layers into the other tower too
    hidden = [name for tower in _OF_TOWER.keys() - used for name in _OF_TOWER[tower]] if alone else []
    return _Place(in_model.keys(), _inside(prefix, towers), hidden)


def _fitting_tower(path: Path, state: dict[str, Tensor], prefix: str, towers: Backbone) -> nn.Module:
    """The only tower that has the adapted modules, with their numbers of inputs."""
    sizes = {
        name.removeprefix(prefix).removesuffix(".lora_A.weight"): value.shape[-1]
        for name, value in state.items()
        if name.endswith(".lora_A.weight")
    }
    both: list[nn.Module] = [towers.vision_model, towers.text_model]
    fitting = [tower for tower in both if _has(tower, sizes)]
    if len(fitting) != 1:
        raise SourceError(
            f"{path} does not say which tower it adapts: write it into {CONFIG} as "
            '"auto_mapping": {"base_model_class": "CLIPTextModel"}, or CLIPVisionModel'
        )
    return fitting[0]


def _has(tower: nn.Module, sizes: dict[str, int]) -> bool:
    """Whether the tower has all these modules, with these numbers of inputs."""
    inputs = {name: getattr(module, "in_features", None) for name, module in tower.named_modules()}
    return all(inputs.get(name) == size for name, size in sizes.items())


def _inside(prefix: str, module: nn.Module) -> nn.Module:
    """The module as a part of others, under this prefix of names: PEFT needs the names of the adapted model."""
    for name in reversed(prefix.split(".")[:-1]):
        module, inner = nn.Module(), module
        module.add_module(name, inner)
    return module


def _head(path: Path, outside: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight and bias of the linear layer that was saved beside the towers; {} without one."""
    if not outside:
        return {}
    name = min(outside).rpartition(".")[0]
    if f"{name}.weight" not in outside or set(outside) - {f"{name}.weight", f"{name}.bias"}:
        raise SourceError(
            f"{path} holds {first_few(outside)}, which belong to neither tower and are not one linear head; merge the "
            "adapter into a CLIPModel, save_pretrained, and import that"
        )
    weight = outside[f"{name}.weight"]
    return {"weight": weight, "bias": outside.get(f"{name}.bias", torch.zeros(len(weight)))}
