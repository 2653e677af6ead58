"""Backbones in transformers' format: CLIP or SigLIP, from a hub or a directory."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, CLIPConfig, CLIPModel, SiglipConfig, SiglipModel
from transformers.utils.logging import disable_progress_bar

from training.errors import BackboneError, cause_of, first_few
from training.model.backbone_files import ACTIVATIONS, unreachable
from training.model.towers import Backbone

BackboneConfig: TypeAlias = CLIPConfig | SiglipConfig
_MODELS: dict[type, type[Backbone]] = {CLIPConfig: CLIPModel, SiglipConfig: SiglipModel}


def load_backbone_config(backbone: str) -> BackboneConfig:
    """The backbone's configuration, from a hub id or a directory. Raises BackboneError."""
    try:
        config = AutoConfig.from_pretrained(backbone)
    except (OSError, ValueError) as error:
        raise BackboneError(unreachable(backbone)) from error
    except Exception as error:  # transformers raises errors of many types for odd values
        raise BackboneError(_unusable(backbone, error)) from error
    if type(config) not in _MODELS:
        raise BackboneError(f"backbone: {backbone} is a {config.model_type} model; only CLIP and SigLIP can be adapted")
    for tower in (config.vision_config, config.text_config):
        if tower.hidden_act not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise BackboneError(
                f"backbone: {backbone} has the activation {tower.hidden_act} (hidden_act), which cannot be exported; "
                f"choose one that has one of {known}"
            )
    if isinstance(config, SiglipConfig):
        image, text = config.vision_config, config.text_config
        if image.hidden_size != text.projection_size:
            raise BackboneError(
                f"backbone: {backbone} has image features of size {image.hidden_size} and text features of size "
                f"{text.projection_size}; choose one whose features have one size"
            )
        if not image.vision_use_head:
            raise BackboneError(
                f"backbone: {backbone} has no attention pooling (vision_use_head is false); choose one that has it"
            )
    return config


def empty_backbone(config: BackboneConfig) -> Backbone:
    """A backbone of this configuration with random weights."""
    return _MODELS[type(config)](config)


def load_backbone(backbone: str) -> Backbone:
    """The backbone with its weights as float32. Raises BackboneError."""
    model, _ = _load(backbone)
    return model


def load_checkpoint(folder: Path) -> Backbone:
    """A fine-tuned backbone, from safetensors only.

    Raises:
        BackboneError: as `load_backbone`, or the files hold weights that the model does not have.
    """
    model, unexpected = _load(str(folder), use_safetensors=True)
    if unexpected:
        raise BackboneError(f"it holds {first_few(unexpected)}, which a {type(model).__name__} does not have")
    return model


def _unusable(backbone: str, error: Exception) -> str:
    """The message for a backbone whose configuration has values that no model can be built from."""
    return f"backbone: {backbone} has a config.json that transformers cannot use ({cause_of(error)}); copy it again"


def _load(backbone: str, **options: bool) -> tuple[Backbone, list[str]]:
    """The backbone, and the names of weights in its files that it does not have."""
    config = load_backbone_config(backbone)
    disable_progress_bar()  # loading takes seconds, and the bar would clutter the output
    try:
        model, keys = _MODELS[type(config)].from_pretrained(
            backbone, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True, **options
        )
    except (KeyError, OSError, ValueError, RuntimeError, SafetensorError) as error:  # also for weights that do not fit
        raise BackboneError(unreachable(backbone)) from error
    except Exception as error:  # as above
        raise BackboneError(_unusable(backbone, error)) from error
    lacking = sorted(keys["missing_keys"])
    if lacking:  # transformers would fill them with random values
        raise BackboneError(f"backbone: {backbone} lacks the weights {first_few(lacking)}; copy the whole model again")
    return model, sorted(keys["unexpected_keys"])
