"""`best_model.pt` of MoRA's authors: the trained tensors by name, with a few plain values.

Their names for the adapted layers and the head:

    model.{vision,text}_model.encoder.layers.I.self_attn.NAME.{shared_magnitude,specific_magnitude}   m_s, m_p (1, d)
    ....NAME.modality_A, modality_B                                                  P (d, r), Q (r, d)
    shared_params_dict.layer_I.shared_A, shared_B, or under the first NAME of layer I as shared_params.shared_A
                                                                                     A (d_t, r), B (d_v, r)
    cls_head.weight, cls_head.bias                                                   over [image, text] features
    _metadata                                           a dict: alpha, the scale of the updates; backbone_name; ranks
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.config import MoRAConfig
from training.errors import SourceError, first_few
from training.model.mora import MoRAWeight, SharedFactors
from training.model.towers import Backbone

_OWN = re.compile(
    r"model\.((vision|text)_model\..*?layers\.(\d+)\..+)\.(shared_magnitude|specific_magnitude|modality_A|modality_B)"
)
_SHARED = re.compile(r"(?:model\..*?layers\.(\d+)\..+\.shared_params|shared_params_dict\.layer_(\d+))\.shared_([AB])")
_PARTS = {"shared_magnitude", "specific_magnitude", "modality_A", "modality_B"}


@torch.no_grad()
def merge_authors(path: Path, towers: Backbone) -> tuple[Tensor, Tensor, object]:
    """Write the weights of the file, in the official parametrization, into the towers' projections.

    Returns:
        Weight (C, 2P) and bias (C,) of the head, and the name of the backbone it was trained on.

    Raises:
        SourceError: the file is of another kind, is damaged, needs code to be read, or does not fit the towers.
    """
    state = _state(path)
    metadata = state.pop("_metadata", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("alpha"), int | float):
        raise SourceError(
            f"{path} has no _metadata with alpha, the scale of its updates (lora.ALPHA of the authors' configuration): "
            "add it, state['_metadata'] = {'alpha': ...}, and save the file again"
        )
    own: dict[tuple[str, str, int], dict[str, Tensor]] = {}
    shared: dict[int, dict[str, Tensor]] = {}
    for name in [*state]:
        if match := _OWN.fullmatch(name):
            module, tower, layer, part = match.groups()
            own.setdefault((module, tower, int(layer)), {})[part] = state.pop(name)
        elif match := _SHARED.fullmatch(name):
            shared.setdefault(int(match[1] or match[2]), {})[match[3]] = state.pop(name)
    weight, bias = state.pop("cls_head.weight", None), state.pop("cls_head.bias", None)
    if state:
        raise SourceError(f"{path} holds {first_few(state)}, which the authors' code does not save")
    if not own or weight is None or bias is None:
        raise SourceError(
            f"{path} lacks {'cls_head' if own else 'adapted projections'}; is it the whole best_model.pt?"
        )
    for (module, tower, layer), parts in own.items():
        factors = shared.get(layer, {})
        lacking = [*sorted(_PARTS - parts.keys()), *(f"shared_{name}" for name in "AB" if name not in factors)]
        if lacking:
            raise SourceError(f"{path} lacks {first_few(lacking)} of {module}")
        try:
            _merge(towers.get_parameter(f"{module}.weight"), tower, parts, factors, float(metadata["alpha"]))
        except (AttributeError, IndexError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            cure = "give the one it was made for"
            raise SourceError(f"{path} does not fit the backbone at {module} ({reason}); {cure}") from error
    return weight, bias, metadata.get("backbone_name")


def _merge(w0: Tensor, tower: str, parts: dict[str, Tensor], shared: dict[str, Tensor], alpha: float) -> None:
    """Write W over W0. Raises RuntimeError, ValueError or IndexError where shapes differ."""
    (text_width, rank), (image_width, _) = shared["A"].shape, shared["B"].shape
    factors = SharedFactors(text_width, image_width, rank)
    factors.load_state_dict({"text": shared["A"], "image": shared["B"]})
    settings = MoRAConfig(rank=parts["modality_A"].shape[1], scale=alpha, parametrization="official")
    adapted = MoRAWeight(w0, factors, "image" if tower == "vision" else "text", settings)
    names = {"p": "modality_A", "q": "modality_B"}
    names |= {name: name for name in ("shared_magnitude", "specific_magnitude")}
    adapted.load_state_dict({own: parts[theirs] for own, theirs in names.items()}, strict=False)
    w0.copy_(adapted(w0))


def _state(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SourceError(
            f"{path} holds more than tensors and plain values, or is no file of torch.save. It was not read, since "
            "that could run code of its making: save the dict of tensors alone (the authors' get_learned_weights())"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise SourceError(f"{path} cannot be read ({reason}); is it whole?") from error
    tensors = isinstance(state, dict) and all(
        isinstance(value, Tensor) for name, value in state.items() if name != "_metadata"
    )
    if not tensors:
        raise SourceError(f"{path} is not a dict of tensors by name, as the authors' get_learned_weights() gives")
    return {str(name): value for name, value in state.items()}
