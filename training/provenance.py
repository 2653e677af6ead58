"""Which code and packages made a version."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

_PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow", "tokenizers")


def code_version() -> str:
    """The distribution's version, with the commit when run from a checkout."""
    version = importlib.metadata.version("mora-serve")
    folder = Path(__file__).parent
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{version}+{described.stdout.strip()}" if described.returncode == 0 else version


def package_versions() -> dict[str, str]:
    there = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in _PACKAGES if name in there}
