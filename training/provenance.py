"""The code, packages and machine that made a version."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import torch

_PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "peft", "pillow", "tokenizers")


def code_version() -> str:
    """The distribution's version, with the commit when run from a checkout."""
    version = importlib.metadata.version("mora-serve")
    root = Path(__file__).parents[1]
    commit = _git(root, "describe", "--always", "--dirty", "--exclude=*")
    return f"{version}+{commit}" if commit and _git(root, "rev-parse", "--show-toplevel") == str(root) else version


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a trained model or its graphs, if installed."""
    installed = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in _PACKAGES if name in installed}


def machine() -> str:
    """Processor, cores, GPU and versions in words, for reports of measurements."""
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items() if name != "numpy")
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} cores {_processor()}{gpu}; Python {platform.python_version()}, {versions}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
