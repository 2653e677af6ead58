"""What people already have, read as towers and a head: a PEFT adapter, a fine-tuned checkpoint, the authors' file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import peft
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from training.authors import merge_authors
from training.backbones import load_backbone, load_backbone_config, load_checkpoint
from training.errors import BackboneError, SourceError, first_few
from training.preprocessing import Preprocessor
from training.towers import Backbone, feature_size

Kind = Literal["peft", "transformers", "authors"]
Head = dict[str, Tensor]  # `head.weight` (C, 2P) over [image features, text features], `head.bias` (C,)

UNDERSTOOD = (
    "a folder with adapter_config.json and adapter_model.safetensors (PEFT: LoRA, DoRA), a folder with config.json and "
    "model.safetensors (CLIPModel or SiglipModel in transformers' format), or the file best_model.pt of MoRA's authors"
)
_PEFT_PREFIX = "base_model.model."
_TOWER_KEY = re.compile(r"^((?:.*?\.)?)(?:vision_model|text_model|visual_projection|text_projection)\.")
_ARCHITECTURE = {  # of a tower's configuration; what must agree for weights to mean the same
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_act",
    "layer_norm_eps",
    "image_size",
    "patch_size",
    "vocab_size",
    "max_position_embeddings",
}


@dataclass(frozen=True)
class Source:
    """A backbone with the source's weights in place, and the source's own head if it has one."""

    kind: Kind
    backbone: Backbone
    head: Head | None
    notes: tuple[str, ...] = ()


def read_source(path: Path, backbone: str) -> Source:
    """Read what is to be imported onto the configured backbone. Nothing in it is executed.

    Raises:
        SourceError: it is nothing that is understood, damaged, or does not fit the backbone.
        BackboneError: the backbone itself cannot be loaded.
    """
    if path.is_file() and path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        towers = load_backbone(backbone)
        weight, bias, made_for = merge_authors(path, towers)
        head = _checked_head(weight, bias, towers, f"cls_head of {path}")
        return Source("authors", towers, head, _other_name(path, made_for, backbone))
    if (path / "adapter_config.json").is_file():
        return _read_peft(path, backbone)
    if (path / "config.json").is_file():
        return _read_transformers(path, backbone)
    missing = "" if path.exists() else " (there is no such file or folder)"
    raise SourceError(f"{path} is nothing that can be imported{missing}; understood are {UNDERSTOOD}")


def read_head(path: Path, backbone: Backbone) -> Head:
    """The head of a safetensors file with `weight` (C, 2P) and `bias` (C,). Raises SourceError."""
    tensors = _tensors(path)
    if set(tensors) != {"weight", "bias"}:
        raise SourceError(f"{path} holds {first_few(tensors)}; a head is `weight` (C, 2P) and `bias` (C,)")
    return _checked_head(tensors["weight"], tensors["bias"], backbone, str(path))


def _read_peft(path: Path, backbone: str) -> Source:
    """Towers with the adapter merged by peft itself, wherever in the adapted model they were."""
    described = _json(path / "adapter_config.json")
    if "task_config" in described:
        raise SourceError(f"{path} is a run of mora-train already; `mora-train publish {path}` publishes it")
    if described.get("peft_type") != "LORA":
        raise SourceError(
            f"{path} is a PEFT adapter of type {described.get('peft_type')}; LORA (with or without use_dora) can be "
            "imported. Merge others yourself (merge_and_unload, save_pretrained), and import the checkpoint"
        )
    mapping = described.get("auto_mapping")
    if isinstance(mapping, dict):
        _refuse_image_classifier(path, mapping.get("base_model_class"))
    if not (path / "adapter_model.safetensors").is_file():
        raise SourceError(
            f"{path} has no adapter_model.safetensors, and pickles are not read; save it again with "
            "save_pretrained(..., safe_serialization=True)"
        )
    state = _tensors(path / "adapter_model.safetensors")
    named = {name.removeprefix(_PEFT_PREFIX): value for name, value in state.items()}
    prefixes = {match[1] for name in named if (match := _TOWER_KEY.match(name))}
    if len(prefixes) != 1:
        raise SourceError(f"{path} holds {first_few(named)}: not the layers of one CLIP or SigLIP model")
    towers = load_backbone(backbone)
    outside = {name: value for name, value in named.items() if not _TOWER_KEY.match(name)}
    place, head = _peft_head(path, outside, towers)
    prefix = prefixes.pop().removesuffix(".")
    model = nn.Module() if prefix else towers  # of the adapted model's form: adapter_config.json speaks of its names
    if prefix:
        _put(model, prefix, towers)
    if head is not None:
        classes, size = head["head.weight"].shape
        _put(model, place, nn.Linear(size, classes, bias=f"{place}.bias" in outside))
    _merge_peft(path, model, state)
    if head is not None:
        delattr(model, place.split(".")[0])
    return Source(
        "peft", model.get_submodule(prefix), head, _other_name(path, described.get("base_model_name_or_path"), backbone)
    )


def _peft_head(path: Path, outside: dict[str, Tensor], towers: Backbone) -> tuple[str, Head | None]:
    """The one linear layer that was saved beside the towers, and its name in the adapted model."""
    if not outside:
        return "", None
    places = {name.rpartition(".")[0] for name in outside}
    place = min(places)
    if len(places) > 1 or set(outside) - {f"{place}.weight", f"{place}.bias"} or f"{place}.weight" not in outside:
        raise SourceError(
            f"{path} holds {first_few(outside)}, which belong to neither tower and are not one linear head; merge the "
            "adapter into a CLIPModel, and give the head with --head"
        )
    weight = outside[f"{place}.weight"]
    bias = outside.get(f"{place}.bias", torch.zeros(len(weight)))
    return place, _checked_head(weight, bias, towers, f"{place} of {path}")


def _merge_peft(path: Path, model: nn.Module, state: dict[str, Tensor]) -> None:
    try:
        adapted = peft.PeftModel(model, peft.PeftConfig.from_pretrained(str(path)))
        result = peft.set_peft_model_state_dict(adapted, state)
        untold = [name for name in result.missing_keys if ".lora_" in name or ".modules_to_save." in name]
        strange = [*result.unexpected_keys]
        if not untold and not strange:
            adapted.merge_and_unload(safe_merge=True)
    except (ValueError, KeyError, RuntimeError, TypeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = next((line.strip() for line in lines if "size mismatch" in line), lines[0])
        raise SourceError(f"{path} does not fit the backbone: {reason}. Give the one it was made for") from error
    if untold:
        raise SourceError(f"{path} lacks {first_few(untold)}, which its adapter_config.json speaks of")
    if strange:
        raise SourceError(f"{path} holds {first_few(strange)}, which the backbone has no place for")


def _read_transformers(path: Path, backbone: str) -> Source:
    for name in _json(path / "config.json").get("architectures") or []:
        _refuse_image_classifier(path, name)
    try:
        theirs = load_backbone_config(str(path))
    except BackboneError as error:
        raise SourceError(f"{path} is no CLIPModel or SiglipModel ({error})") from error
    ours = load_backbone_config(backbone)
    differing = [
        f"{tower.removesuffix('_config')} {name} {getattr(getattr(theirs, tower), name)} in place of {value}"
        for tower in ("vision_config", "text_config")
        for name, value in getattr(ours, tower).to_dict().items()
        if name in _ARCHITECTURE and getattr(getattr(theirs, tower), name, None) != value
    ]
    if type(theirs) is not type(ours) or differing:
        what = first_few(differing) if differing else f"{theirs.model_type} in place of {ours.model_type}"
        raise SourceError(f"{path} is not of the backbone {backbone}: {what}. Give the one it was made from")
    try:
        towers = load_checkpoint(path)
    except BackboneError as error:
        raise SourceError(
            f"{path} is not a whole {type(ours).__name__.removesuffix('Config')}Model: {error}"
        ) from error
    return Source("transformers", towers, None, _preparation_notes(path, backbone))


def _preparation_notes(path: Path, backbone: str) -> tuple[str, ...]:
    """Whether images and texts are prepared as the source's owner does. Raises SourceError when they are not."""
    try:
        theirs = Preprocessor(str(path), load_backbone_config(str(path)))
    except BackboneError:
        return (f"{path} has no image processor and tokenizer of its own: those of {backbone} are used",)
    ours = Preprocessor(backbone, load_backbone_config(backbone))
    for what in ("image", "text"):
        if getattr(theirs, f"{what}_description")() != getattr(ours, f"{what}_description")():
            raise SourceError(
                f"{path} prepares {what}s otherwise than {backbone}; add --backbone {path}: then all is as there, and "
                "the trunk is shared with other tasks on it alone"
            )
    return ()


def _refuse_image_classifier(path: Path, architecture: object) -> None:
    if isinstance(architecture, str) and architecture.endswith("ForImageClassification"):
        raise SourceError(
            f"{path} is a {architecture}: it has no text tower, and its head reads the mean of the patches in place of "
            "the projected features, so its answers cannot be served. What is possible: put the weights of its image "
            "tower into a CLIPModel (or SiglipModel), save_pretrained, and import that; the head is then fitted anew"
        )


def _other_name(path: Path, made_for: object, backbone: str) -> tuple[str, ...]:
    if not isinstance(made_for, str) or made_for == backbone:
        return ()
    return (f"{path} says it was made for {made_for}; it is put on {backbone}, which must be the same model",)


def _checked_head(weight: Tensor, bias: Tensor, backbone: Backbone, name: str) -> Head:
    wanted = 2 * feature_size(backbone)
    if weight.ndim != 2 or weight.shape[1] != wanted or bias.shape != weight.shape[:1]:
        raise SourceError(
            f"{name} has weight {tuple(weight.shape)} and bias {tuple(bias.shape)}; on this backbone a head is "
            f"(C, {wanted}) and (C,), over image features followed by text features"
        )
    return {"head.weight": weight.float().contiguous(), "head.bias": bias.float().contiguous()}


def _put(root: nn.Module, place: str, module: nn.Module) -> None:
    """Put a module at a dotted place."""
    *folders, name = place.split(".")
    for folder in folders:
        if not hasattr(root, folder):
            root.add_module(folder, nn.Module())
        root = getattr(root, folder)
    root.add_module(name, module)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SourceError(f"{path} is not a readable safetensors file ({error})") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise SourceError(f"{path} is not a JSON object")
    return values
