"""What is trained of the backbone: MoRA, or one of the methods it is compared with."""

from __future__ import annotations

from typing import Protocol

import peft
from torch import nn

from training.config import Method, MoRAConfig
from training.model.mora import MoRAAdapter, projections
from training.model.towers import Backbone


class Adapter(Protocol):
    """The trained part of a backbone. It lets gradients through from the moment it is made until it is merged."""

    def merge(self) -> None:
        """Write what was trained into the backbone's own weights."""


class InPlace:
    """Parameters of the backbone that are trained where they are."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        for value in parameters:
            value.requires_grad_(True)

    def merge(self) -> None:
        """Nothing: the weights are the backbone's own."""


class LowRank:
    """LoRA (arXiv 2106.09685) or DoRA (arXiv 2402.09353) from peft, scaled by alpha / r = 1."""

    def __init__(self, backbone: Backbone, layers: list[nn.Module], config: MoRAConfig, use_dora: bool) -> None:
        chosen = {projection for layer in layers for projection in projections(layer, config).values()}
        names = [name for name, module in backbone.named_modules() if module in chosen]
        lora = peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.rank,
            lora_dropout=config.dropout,
            target_modules=names,
            use_dora=use_dora,
        )
        self._tuner = peft.LoraModel(backbone, lora, "default")

    def merge(self) -> None:
        self._tuner.merge_and_unload()


def adapt(
    method: Method, backbone: Backbone, image_layers: list[nn.Module], text_layers: list[nn.Module], config: MoRAConfig
) -> Adapter:
    """Prepare a frozen backbone for training.

    Args:
        image_layers, text_layers: the last layers of the towers, which every method but full fine-tuning keeps to.
        config: LoRA and DoRA take their target modules, rank and dropout from it.

    Raises:
        BackboneError: the layers lack the target modules.
    """
    layers = [*image_layers, *text_layers]
    match method:
        case "mora":
            return MoRAAdapter(image_layers, text_layers, config)
        case "lora" | "dora":
            return LowRank(backbone, layers, config, use_dora=method == "dora")
        case "bitfit":
            return InPlace([p for layer in layers for name, p in layer.named_parameters() if name.endswith("bias")])
        case "full":
            return InPlace([p for name, p in backbone.named_parameters() if not name.startswith("logit_")])
        case "head":
            return InPlace([])
