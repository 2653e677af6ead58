"""The small files of a backbone, from a directory or a hub, read without torch and transformers: both import slowly."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from training.errors import BackboneError
from training.model.foreign_files import foreign_file, foreign_folder

ACTIVATIONS = ("gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "quick_gelu")  # of MLPs that can be exported


def backbone_file(backbone: str, name: str, may_fetch: bool = True) -> Path | None:
    """A file of a backbone; None if it has no such file, or, without `may_fetch`, none on this machine."""
    if Path(backbone).exists():
        path = Path(backbone) / name
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download  # imported here because a directory does not need it

    try:
        return Path(hf_hub_download(backbone, name, local_files_only=not may_fetch))
    except (OSError, ValueError):  # ValueError: of a name that no repository may have
        return None


def read_config(backbone: str) -> dict[str, Any]:
    """The backbone's config.json. Raises BackboneError."""
    values = read_json_file(backbone_file(backbone, "config.json"))
    if values is None:
        raise BackboneError(unreachable(backbone))
    return values


def read_json_file(path: Path | None) -> dict[str, Any] | None:
    """The object in a JSON file; None if the file is missing or holds something else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8")) if path is not None else None
    except (OSError, RecursionError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def unreachable(backbone: str) -> str:
    """The message for a backbone that cannot be loaded."""
    if Path(backbone).exists():
        unreadable = [path for path in Path(backbone).glob("*") if not os.access(path, os.R_OK)]
        if unreadable:  # `save_pretrained` writes weights that only their owner may read
            return f"backbone: this user may not read {unreadable[0]}; try chmod a+r"
        reason = foreign_folder(Path(backbone)) if Path(backbone).is_dir() else foreign_file(Path(backbone))
        problem = f"backbone: {backbone} does not hold a whole transformers model"
        return f"{problem}; copy config.json and model.safetensors{f' ({reason})' if reason else ''}"
    return (
        f"backbone: {backbone} is neither a directory nor a model on the hub; check the name, the network "
        "and HF_HUB_OFFLINE, or give a local directory"
    )
