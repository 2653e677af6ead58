"""Heads that were trained elsewhere, read from safetensors files."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from training.errors import SourceError, first_few
from training.model.towers import Backbone, feature_size

Head = dict[str, Tensor]  # `head.weight` (C, 2P) over [image features, text features], `head.bias` (C,)


def read_head(path: Path, backbone: Backbone) -> Head:
    """The head of a safetensors file with `weight` (C, 2P) and `bias` (C,). Raises SourceError."""
    tensors = read_tensors(path)
    if set(tensors) != {"weight", "bias"}:
        raise SourceError(f"{path} holds {first_few(tensors)}; a head is `weight` (C, 2P) and `bias` (C,)")
    return checked_head(tensors["weight"], tensors["bias"], backbone, str(path))


def checked_head(weight: Tensor, bias: Tensor, backbone: Backbone, name: str) -> Head:
    """Weight and bias as the model takes them. Raises SourceError, with `name`, when they do not fit the backbone."""
    inputs = 2 * feature_size(backbone)
    if weight.ndim != 2 or weight.shape[1] != inputs or bias.shape != weight.shape[:1]:
        raise SourceError(
            f"{name} has weight {tuple(weight.shape)} and bias {tuple(bias.shape)}; on this backbone a head is "
            f"(C, {inputs}) and (C,), over image features followed by text features"
        )
    if not bool(weight.isfinite().all() and bias.isfinite().all()):
        raise SourceError(f"{name} holds numbers that are not finite; it cannot be served")
    return {"head.weight": weight.float().contiguous(), "head.bias": bias.float().contiguous()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name. Raises SourceError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SourceError(f"{path} is not a readable safetensors file ({error})") from error
