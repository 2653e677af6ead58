"""LoRA and DoRA adapters in PEFT's files, which PEFT merges into the towers they were made for."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor, nn

from training.errors import SourceError, first_few
from training.model.imported_head import Head, checked_head, read_tensors
from training.model.towers import Backbone

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RUN_DESCRIPTION = "task.json"  # in the folder of a run; older runs have it in CONFIG
_MAX_DIFFERENCE = 1e-4  # of a feature, before and after merging
_PREFIX = "base_model.model."
_OF_TOWERS = re.compile(r"((?:.*?\.)?)(?:vision_model|text_model|visual_projection|text_projection)\.")


def merge_adapter(path: Path, towers: Backbone) -> tuple[Backbone, Head | None, object]:
    """Merge the adapter of a folder into the towers.

    The adapted model may be a CLIPModel or SiglipModel, or a module that contains one, beside a linear head in
    `modules_to_save`.

    Returns:
        The merged towers, the head if there is one, and the name of the model that the adapter was made for.

    Raises:
        SourceError: it is another kind of adapter, is damaged, or does not fit the towers.
    """
    described = read_description(path / CONFIG)
    _check_kind(path, described)
    state = read_tensors(path / WEIGHTS)
    named = {name.removeprefix(_PREFIX): value for name, value in state.items()}
    prefixes = {match[1] for name in named if (match := _OF_TOWERS.match(name))}
    if len(prefixes) != 1:
        raise SourceError(f"{path} holds {first_few(named)}: not the layers of one CLIP or SigLIP model")
    outside = {name: value for name, value in named.items() if not _OF_TOWERS.match(name)}
    head_name, head = _head(path, outside, towers)
    prefix = prefixes.pop().removesuffix(".")
    model = nn.Module() if prefix else towers  # has the adapted model's names, which the adapter's configuration uses
    if prefix:
        _put(model, prefix, towers)
    if head is not None:
        classes, size = head["head.weight"].shape
        _put(model, head_name, nn.Linear(size, classes, bias=f"{head_name}.bias" in outside))
    _merge(path, model, towers, state)
    if head is not None:
        delattr(model, head_name.split(".")[0])
    merged: Any = model.get_submodule(prefix)
    return merged, head, described.get("base_model_name_or_path")


def read_description(path: Path) -> dict[str, Any]:
    """The JSON object that describes a model or an adapter. Raises SourceError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise SourceError(f"{path} is not a JSON object")
    return values


def refuse_image_classifier(path: Path, architecture: object) -> None:
    """Raise SourceError for an image classifier, whose answers no head over two projections can give."""
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
            f"{path} is a PEFT adapter of type {kind}; LORA can be imported, with use_dora or without. Merge another "
            "yourself (merge_and_unload, save_pretrained), and import the checkpoint"
        )
    mapping = described.get("auto_mapping")
    if isinstance(mapping, dict):
        refuse_image_classifier(path, mapping.get("base_model_class"))
    if not (path / WEIGHTS).is_file():
        raise SourceError(
            f"{path} has no {WEIGHTS}, and pickles are not read; save it again with save_pretrained, which writes it"
        )


def _head(path: Path, outside: dict[str, Tensor], towers: Backbone) -> tuple[str, Head | None]:
    """The linear layer that was saved beside the towers, if there is one, and its name in the adapted model."""
    if not outside:
        return "", None
    name = min(outside).rpartition(".")[0]
    if f"{name}.weight" not in outside or set(outside) - {f"{name}.weight", f"{name}.bias"}:
        raise SourceError(
            f"{path} holds {first_few(outside)}, which belong to neither tower and are not one linear head; merge the "
            "adapter into a CLIPModel, save_pretrained, and import that"
        )
    weight = outside[f"{name}.weight"]
    bias = outside.get(f"{name}.bias", torch.zeros(len(weight)))
    return name, checked_head(weight, bias, towers, f"{name} of {path}")


def _merge(path: Path, model: nn.Module, towers: Backbone, state: dict[str, Tensor]) -> None:
    try:
        with warnings.catch_warnings():  # peft asks transformers for a name that transformers has deprecated
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            adapted = peft.PeftModel(model, peft.PeftConfig.from_pretrained(str(path))).eval()
        result = peft.set_peft_model_state_dict(adapted, state)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = next((line.strip() for line in lines if "size mismatch" in line), lines[0])
        raise SourceError(f"{path} does not fit the backbone ({reason}); give the one it was made for") from error
    lacking = [name for name in result.missing_keys if ".lora_" in name]
    if lacking:
        raise SourceError(f"{path} lacks {first_few(lacking)}, which its {CONFIG} lists; it is not whole")
    if result.unexpected_keys:
        raise SourceError(f"{path} holds {first_few(result.unexpected_keys)}, which the backbone does not have")
    before = _features(towers)
    adapted.merge_and_unload()
    difference = float((_features(towers) - before).abs().max())
    if not difference <= _MAX_DIFFERENCE:
        raise SourceError(
            f"{path} cannot be merged: that moves a feature by {difference:.1e}. Perhaps it adapts a module that the "
            "model does not call, such as out_proj of SigLIP's pooling, or holds numbers that are not finite"
        )


@torch.no_grad()
def _features(towers: Backbone) -> Tensor:
    """Both towers' features (2, P) of noise and of a few tokens."""
    vision, text = towers.config.vision_config, towers.config.text_config
    random = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, vision.num_channels, vision.image_size, vision.image_size, generator=random)
    ids = torch.randint(text.vocab_size, (1, min(8, text.max_position_embeddings)), generator=random)
    image = towers.get_image_features(pixel_values=pixels).pooler_output
    return torch.cat([image, towers.get_text_features(input_ids=ids).pooler_output])


def _put(root: nn.Module, dotted: str, module: nn.Module) -> None:
    """Add a module under a dotted name."""
    *parents, name = dotted.split(".")
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.Module())
        root = getattr(root, parent)
    root.add_module(name, module)
