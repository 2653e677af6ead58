"""The code, the packages and the machine that a version was made with, and its configuration without local paths."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath

import torch
from pydantic import JsonValue

from model_store.processor import processor_fields

_PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "peft", "pillow", "tokenizers")


_ROOT = Path(__file__).parents[1]


def code_version() -> str:
    """The version of the distribution, with the commit if the code is a checkout."""
    try:
        version = importlib.metadata.version("mora-serve")
    except importlib.metadata.PackageNotFoundError:  # a checkout that is run without being installed
        version = "unknown"
    try:
        commit, top = _git("describe", "--always", "--dirty", "--exclude=*"), _git("rev-parse", "--show-toplevel")
    except (OSError, subprocess.CalledProcessError):  # git is not installed, or the code is not a checkout
        return version
    return f"{version}+{commit}" if top == str(_ROOT) else version


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that can change a trained model or its graphs."""
    found = {name: next(iter(importlib.metadata.distributions(name=name)), None) for name in _PACKAGES}
    return {name: distribution.version for name, distribution in found.items() if distribution is not None}


def public_path(name: str) -> str:
    """A name without the folders of this machine: of a path that is absolute or leaves its folder, only the last part.

    A relative path below its folder and the name of a data set or model on the hub stay as they are.
    """
    path = PureWindowsPath(name)  # it divides at / as well
    is_local = bool(path.drive or path.root) or name.startswith(("~", "file:")) or ".." in path.parts
    return (path.name if len(path.parts) > 1 else "") or "." if is_local else name


def public_config(values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A configuration whose texts, except labels, are public paths."""
    return {name: value if name == "labels" else _public(value) for name, value in values.items()}


def _public(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {name: _public(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_public(inner) for inner in value]
    return public_path(value) if isinstance(value, str) else value


def machine() -> str:
    """Processor, cores, GPU and versions in one line, for reports and benchmarks."""
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items() if name != "numpy")
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} cores {_processor()}{gpu}; Python {platform.python_version()}, {versions}"


def _processor() -> str:
    fields = processor_fields()
    return fields.get("model name", platform.machine()) if fields else platform.processor()
