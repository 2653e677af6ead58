"""LoRA and DoRA adapters in PEFT's files, which PEFT merges into the towers they were made for."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from training.errors import SourceError, first_few
from training.model.towers import Backbone

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RUN_DESCRIPTION = "task.json"  # in a run folder; older runs have the same content in CONFIG
_MAX_DIFFERENCE = 1e-4  # of a feature, before and after merging
_PREFIX = "base_model.model."
_IN_TOWERS = re.compile(r"((?:.*?\.)?)(?:vision_model|text_model|visual_projection|text_projection)\.")


def merge_adapter(path: Path, towers: Backbone) -> tuple[dict[str, Tensor], object]:
    """Merge the adapter of a folder into the towers.

    The adapted model may be a CLIPModel or SiglipModel, or a module that contains one, beside a linear head in
    `modules_to_save`.

    Returns:
        `weight` and `bias` of the head, or {} without a head; and the name of the model that the adapter was made for.

    Raises:
        SourceError: the adapter is of another kind, is damaged, or does not fit the towers.
    """
    described = read_description(path / CONFIG)
    _check_kind(path, described)
    state = {name.removeprefix(_PREFIX): value for name, value in read_tensors(path / WEIGHTS).items()}
    in_towers = {name: match[1] for name in state if (match := _IN_TOWERS.match(name))}
    prefixes = set(in_towers.values())
    if len(prefixes) != 1:
        raise SourceError(f"{path} holds {first_few(state)}: not the layers of one CLIP or SigLIP model")
    head = _head(path, {name: value for name, value in state.items() if name not in in_towers})
    model: nn.Module = towers
    for name in reversed(prefixes.pop().split(".")[:-1]):  # PEFT needs the names of the layers in the adapted model
        model, inner = nn.Module(), model
        model.add_module(name, inner)
    _merge(path, model, towers, {f"{_PREFIX}{name}": state[name] for name in in_towers})
    return head, described.get("base_model_name_or_path")


def read_description(path: Path) -> dict[str, Any]:
    """The JSON object that describes a model or an adapter. Raises SourceError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise SourceError(f"{path} is not a JSON object")
    return values


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name. Raises SourceError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SourceError(f"{path} is not a readable safetensors file ({error})") from error


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
    mapping = described.get("auto_mapping")
    if isinstance(mapping, dict):
        refuse_image_classifier(path, mapping.get("base_model_class"))
    if not (path / WEIGHTS).is_file():
        raise SourceError(
            f"{path} has no {WEIGHTS}, and pickles are not read; save it again with save_pretrained, which writes it"
        )


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


def _merge(path: Path, model: nn.Module, towers: Backbone, state: dict[str, Tensor]) -> None:
    """Merge into the towers, which are the model or a part of it."""
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
        cure = "give the backbone that it was made for, or copy the whole folder again"
        raise SourceError(f"{path} lacks {first_few(lacking)}, which its {CONFIG} lists; {cure}")
    if result.unexpected_keys:
        raise SourceError(f"{path} holds {first_few(result.unexpected_keys)}, which the backbone does not have")
    before = _features(towers)
    adapted.merge_and_unload()
    difference = float((_features(towers) - before).abs().max())
    if not difference <= _MAX_DIFFERENCE:  # also if it is NaN
        raise SourceError(
            f"{path} cannot be merged: merging moves a feature by {difference:.1e}. Perhaps it adapts a module that "
            "the model does not call, such as out_proj of SigLIP's pooling, or holds numbers that are not finite"
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
