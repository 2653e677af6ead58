"""The trained part of the backbone: MoRA, or one of the methods that MoRA is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from safetensors.torch import load_file, save_file
from torch import nn

from training.config import Method, MoRAConfig
from training.errors import BackboneError
from training.model.file_names import WEIGHTS
from training.model.mora import MoRAAdapter, projections
from training.model.towers import Backbone

_PEFT_MODEL = "base_model."  # PeftModel's prefix to the names of a LoraModel, which is its base model


class Adapter(Protocol):
    """The trained part of a backbone, from its creation until it is merged."""

    def merge(self) -> frozenset[nn.Linear]:
        """Write the trained values into the backbone's own weights.

        Returns the projections that hold all of them, apart from the head; none if other parameters were trained too.
        """


class InPlace:
    """Parameters of the backbone that are themselves trained."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        for value in parameters:
            value.requires_grad_(True)

    def merge(self) -> frozenset[nn.Linear]:
        """Do nothing: the trained weights are the backbone's own."""
        return frozenset()


class LowRank:
    """LoRA (arXiv 2106.09685) or DoRA (arXiv 2402.09353) from PEFT, scaled by alpha / r = 1.

    PEFT takes a second to import, so it is imported here, and not for the other methods.
    """

    def __init__(self, backbone: Backbone, layers: list[nn.Module], config: MoRAConfig, use_dora: bool) -> None:
        import peft

        self._adapted = frozenset(each for layer in layers for each in projections(layer, config).values())
        names = [name for name, module in backbone.named_modules() if module in self._adapted]
        self._config = peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.rank,
            lora_dropout=config.dropout,
            target_modules=names,
            use_dora=use_dora,
        )
        self._tuner = peft.LoraModel(backbone, self._config, "default")

    def merge(self) -> frozenset[nn.Linear]:
        self._tuner.merge_and_unload()
        return self._adapted

    def save(self, folder: Path, backbone: str) -> None:
        """Write the files that `PeftModel.from_pretrained` loads."""
        import peft

        state = peft.get_peft_model_state_dict(self._tuner, save_embedding_layers=False)
        save_file({f"{_PEFT_MODEL}{name}": value.contiguous() for name, value in state.items()}, folder / WEIGHTS)
        self._config.base_model_name_or_path, self._config.inference_mode = backbone, True
        self._config.save_pretrained(str(folder))

    def load(self, folder: Path) -> None:
        """Read the weights that `save` wrote. Raises BackboneError when they do not fit."""
        import peft

        state = {name.removeprefix(_PEFT_MODEL): value for name, value in load_file(folder / WEIGHTS).items()}
        try:
            result = peft.set_peft_model_state_dict(self._tuner, state)
            fits = not result.unexpected_keys and not any(".lora_" in name for name in result.missing_keys)
        except RuntimeError:  # other shapes
            fits = False
        if not fits:
            raise BackboneError(f"{folder / WEIGHTS} does not fit this backbone; use the one it was made with")


def adapt(
    method: Method, backbone: Backbone, image_layers: list[nn.Module], text_layers: list[nn.Module], config: MoRAConfig
) -> Adapter:
    """Prepare a frozen backbone for training.

    Args:
        image_layers, text_layers: the last layers of the towers; only full fine-tuning trains other layers too.
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
