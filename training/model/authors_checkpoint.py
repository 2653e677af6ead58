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
from safetensors import SafetensorError
from torch import Tensor

from training.config import MoRAConfig
from training.errors import SourceError, first_few
from training.model.mora import MoRAWeight
from training.model.towers import Backbone

_OWN = re.compile(
    r"model\.((vision|text)_model\..*?layers\.(\d+)\..+)\.(shared_magnitude|specific_magnitude|modality_A|modality_B)"
)
_SHARED = re.compile(r"(?:model\..*?layers\.(\d+)\..+\.shared_params|shared_params_dict\.layer_(\d+))\.shared_([AB])")
_THEIR_NAMES = {  # by our names
    "p": "modality_A",
    "q": "modality_B",
    "shared_magnitude": "shared_magnitude",
    "specific_magnitude": "specific_magnitude",
}


@torch.no_grad()
def merge_authors(path: Path, towers: Backbone) -> tuple[dict[str, Tensor], object]:
    """Write the weights of the file, in the official parametrization, into the towers' projections.

    Returns:
        `weight` (C, 2P) and `bias` (C,) of the head, and the name of the backbone it was trained on.

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
    head = {name: state.pop(f"cls_head.{name}") for name in ("weight", "bias") if f"cls_head.{name}" in state}
    for name in [*state]:
        if match := _OWN.fullmatch(name):
            module, tower, layer, part = match.groups()
            own.setdefault((module, tower, int(layer)), {})[part] = state.pop(name)
        elif match := _SHARED.fullmatch(name):
            shared.setdefault(int(match[1] or match[2]), {})[match[3]] = state.pop(name)
    if state:
        raise SourceError(f"{path} holds {first_few(state)}, which the authors' code does not save")
    if not own or len(head) < 2:
        lacking = "cls_head" if own else "adapted projections"
        raise SourceError(f"{path} lacks {lacking}; copy the whole best_model.pt again")
    for (module, tower, layer), parts in own.items():
        factors = shared.get(layer, {})
        missing = sorted(set(_THEIR_NAMES.values()) - parts.keys())
        missing += [f"shared_{name}" for name in "AB" if name not in factors]
        if missing:
            raise SourceError(f"{path} lacks {first_few(missing)} of {module}")
        try:
            _merge(towers.get_parameter(f"{module}.weight"), tower, parts, factors, float(metadata["alpha"]))
        except (AttributeError, IndexError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            cure = "give the one it was made for"
            raise SourceError(f"{path} does not fit the backbone at {module} ({reason}); {cure}") from error
    return head, metadata.get("backbone_name")


def _merge(w0: Tensor, tower: str, parts: dict[str, Tensor], shared: dict[str, Tensor], alpha: float) -> None:
    """Write W over W0. Raises RuntimeError, ValueError or IndexError where shapes differ."""
    if w0.shape[0] != w0.shape[1]:
        raise ValueError("the authors' code adapts square weights only")
    text, image = shared["A"].float(), shared["B"].float()
    own, other = (image, text) if tower == "vision" else (text, image)
    settings = MoRAConfig(rank=parts["modality_A"].shape[1], scale=alpha, parametrization="official")
    adapted = MoRAWeight(w0, own, other, settings)
    adapted.load_state_dict({ours: parts[theirs] for ours, theirs in _THEIR_NAMES.items()}, strict=False)
    w0.copy_(adapted(w0))


def _state(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SourceError(
            f"{path} was not read. Either torch.save did not write it, or it holds more than tensors and plain values, "
            "and reading it could run code: save the dict of tensors alone (the authors' get_learned_weights())"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise SourceError(f"{path} cannot be read ({reason}); copy the whole file again") from error
    if not isinstance(state, dict) or not all(isinstance(state[name], Tensor) for name in state.keys() - {"_metadata"}):
        raise SourceError(f"{path} is not a dict of tensors by name, as the authors' get_learned_weights() gives")
    return {str(name): value for name, value in state.items()}
