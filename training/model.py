"""The trained model: two frozen towers, their MoRA adapter, and one linear head over both features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, CLIPConfig, CLIPModel
from transformers.utils.logging import disable_progress_bar

from model_store import Problem
from training.config import MoRAConfig, TaskConfig
from training.errors import BackboneError
from training.mora import MoRAAdapter


class MissingModalityClassifier(nn.Module):
    """CLIP's towers, adapted by MoRA, and a head Linear(2P -> C) over [image features, text features].

    Both towers always run here: a missing image is a white picture, a missing text the empty string. The features are
    the unnormalised projections (METHOD: official configurations). Its state is what is trained: adapter and head.
    """

    def __init__(self, clip: CLIPModel, config: TaskConfig, classes: int) -> None:
        super().__init__()
        clip.requires_grad_(False)
        image_layers, text_layers = clip.vision_model.encoder.layers, clip.text_model.encoder.layers
        self.image_split, self.text_split = split_layers(len(image_layers), len(text_layers), config.mora)
        self.adapter = MoRAAdapter(
            list(image_layers[self.image_split :]), list(text_layers[self.text_split :]), config.mora
        )
        self.head = nn.Linear(2 * clip.config.projection_dim, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.clip = clip
        self.problem = config.problem

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, P)."""
        pooled = self.clip.vision_model(pixel_values=pixel_values).pooler_output
        return self.clip.visual_projection(pooled)  # type: ignore[no-any-return]

    def text_features(self, input_ids: Tensor) -> Tensor:
        """(B, L), padded behind the end token or not -> (B, P)."""
        pooled = self.clip.text_model(input_ids=input_ids).pooler_output
        return self.clip.text_projection(pooled)  # type: ignore[no-any-return]

    def forward(self, pixel_values: Tensor, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Logits (B, C), and the loss when labels are given: class indices (B,), or 0/1 (B, C) for multi-label."""
        features = torch.cat([self.image_features(pixel_values), self.text_features(input_ids)], dim=-1)  # (B, 2P)
        logits = self.head(features)
        if labels is None:
            return {"logits": logits}
        multi_label = self.problem is Problem.MULTI_LABEL
        loss = nn.functional.binary_cross_entropy_with_logits if multi_label else nn.functional.cross_entropy
        return {"loss": loss(logits, labels), "logits": logits}

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:  # type: ignore[override]  # noqa: ANN401
        """The trained parameters alone, so that checkpoints and adapters stay small."""
        return {name: value.detach() for name, value in self.named_parameters() if value.requires_grad}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401
        """Load trained parameters, all of them and nothing else."""
        own = self.state_dict()
        if own.keys() != state_dict.keys() or any(own[n].shape != state_dict[n].shape for n in own):
            raise BackboneError(
                "the adapter does not fit this backbone and configuration; use the ones it was made with"
            )
        for name, value in own.items():
            value.copy_(state_dict[name])
        return nn.modules.module._IncompatibleKeys([], [])

    def trainable_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(value.numel() for value in self.state_dict().values())


def split_layers(image_layers: int, text_layers: int, config: MoRAConfig) -> tuple[int, int]:
    """First adapted layer of the image and of the text tower: as many last layers in both."""
    shallower = min(image_layers, text_layers)
    first = config.first_layer if config.first_layer is not None else max(shallower - 2, 0)
    if first >= shallower:
        raise BackboneError(
            f"mora.first_layer is {first}, but the shallower tower has {shallower} layers, 0 to {shallower - 1}"
        )
    adapted = shallower - first
    return image_layers - adapted, text_layers - adapted


def load_clip_config(backbone: str) -> CLIPConfig:
    """The backbone's configuration, from a hub id or a directory. Raises BackboneError."""
    try:
        config = AutoConfig.from_pretrained(backbone)
    except (OSError, ValueError) as error:
        raise BackboneError(_unreachable(backbone)) from error
    if not isinstance(config, CLIPConfig):
        raise BackboneError(f"backbone: {backbone} is a {config.model_type} model; only CLIP models can be adapted")
    return config


def load_clip(backbone: str) -> CLIPModel:
    """The backbone with its weights as float32. Raises BackboneError."""
    load_clip_config(backbone)
    disable_progress_bar()  # of loading weights: seconds at most, and it would stand between the lines that matter
    try:
        return CLIPModel.from_pretrained(backbone, dtype=torch.float32, attn_implementation="sdpa")
    except (OSError, ValueError) as error:
        raise BackboneError(_unreachable(backbone)) from error


def _unreachable(backbone: str) -> str:
    if Path(backbone).exists():
        return f"backbone: {backbone} does not hold a transformers model (config.json, model.safetensors)"
    return (
        f"backbone: {backbone} is neither a directory nor a model that the hub could give; check the name, the network "
        "and HF_HUB_OFFLINE, or give a local directory"
    )
