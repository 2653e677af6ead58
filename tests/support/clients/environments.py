"""Python environments of other projects' clients, whose pins differ from ours: `make client-test` makes them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parents[3] / "build/clients"
_OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS")


def run_in(environment: str, *command: str | Path, folder: Path | None = None) -> str:
    """The output of a command of an environment; the test is skipped if the environment does not exist."""
    programs = _FOLDER / environment / "bin"
    if not programs.is_dir():
        pytest.skip(f"NOT TESTED: {programs.parent} does not exist (make client-test)")
    variables = {name: value for name, value in os.environ.items() if name not in _OURS}
    variables["PATH"] = f"{programs}:{variables['PATH']}"
    done = subprocess.run(
        [programs / command[0], *command[1:]], capture_output=True, text=True, cwd=folder, env=variables, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
