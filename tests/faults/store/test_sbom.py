"""Row S4 of the fault table, for an environment: its SBOM and what is installed do not differ."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]


def difference(listed: set[tuple[str, str]]) -> list[str]:
    """What is installed and not listed, or listed and not installed; this project itself is the one described."""
    script = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    names = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    there = {(canonicalize_name(name), version) for name, version in (found.split("==") for found in names)}
    there = {(name, version) for name, version in there if name != "mora-serve"}
    return [f"{name} {version}" for name, version in sorted(listed ^ there)]


def test_an_sbom_lists_what_is_installed(tmp_path, reliability):
    file, module = tmp_path / "sbom.json", "cyclonedx_py"
    # As `make sbom` does, but for the validation, which takes 15 seconds.
    options = ["--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "--no-validate", "--output-file", file]
    command = [sys.executable, "-m", module, "environment", *map(str, options), sys.executable]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    bom = json.loads(file.read_text())
    listed = {(canonicalize_name(component["name"]), component["version"]) for component in bom["components"]}

    assert (bom["specVersion"], bom["metadata"]["component"]["name"]) == ("1.6", "mora-serve")
    found = difference(listed)
    reliability(
        f"S4: SBOM of {len(listed)} packages", "differs in 0 from what is installed", str(found or 0), not found
    )
    assert difference(listed - {min(listed)}) == ["{} {}".format(*min(listed))]  # the control
    assert difference(listed | {("planted", "1.0")}) == ["planted 1.0"]
