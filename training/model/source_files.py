"""The files of a source: JSON objects, and tensors in safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from training.errors import SourceError
from training.model.foreign_files import damaged_file


def read_description(path: Path) -> dict[str, Any]:
    """The JSON object that describes a model or an adapter. Raises SourceError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise SourceError(f"{path} {damaged_file(path) or f'cannot be read ({error})'}") from error
    if not isinstance(values, dict):
        raise SourceError(f"{path} is not a JSON object")
    return values


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name. Raises SourceError."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise SourceError(f"{path}: No such file or directory; correct the path, or copy the file there") from error
    except (KeyError, OSError, RuntimeError, SafetensorError, ValueError) as error:
        kind = damaged_file(path) or f"is not a readable safetensors file ({error}); copy the whole file again"
        raise SourceError(f"{path} {kind}") from error
