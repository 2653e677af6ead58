"""Row S3 of the fault table: what a service installs is named to the last file, in docker/requirements-*.txt."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from itertools import product
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
RUNTIMES = {"cpu": "onnxruntime", "gpu": "onnxruntime-gpu"}
PLATFORMS = [
    {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for version, machine in product(["3.11", "3.12", "3.13"], ["x86_64", "aarch64"])
]
LINE = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?: ; platform_machine == 'x86_64')?"
    r"(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})+)"
)


def lock(name: str) -> str:
    return (ROOT / "docker" / f"requirements-{name}.txt").read_text(encoding="utf-8")


def lines_of(text: str) -> list[str]:
    """One a package, comments left out."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return [line for line in joined.splitlines() if not line.startswith("#")]


def faults_in(text: str, pins: dict[str, str], needed: set[str]) -> list[str]:
    """What is wrong with a lock: lines that are no pin with hashes, other versions, packages too few or too many."""
    found = [LINE.fullmatch(line) or line for line in lines_of(text)]
    faults = [f"no version with hashes, and nothing else: {line}" for line in found if isinstance(line, str)]
    locked = {line["name"]: line["version"] for line in found if not isinstance(line, str)}
    faults += [f"{name} {version}: not in constraints.txt" for name, version in locked.items() - pins.items()]
    faults += [f"{name}: not locked" for name in needed - locked.keys()]
    return faults + [f"{name}: nothing needs it" for name in locked.keys() - needed]


def pins() -> dict[str, str]:
    return dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())


def needed_by(requirements: list[str], platform: dict[str, str]) -> set[str]:
    """Names of everything that these bring in there, by what the installed distributions declare."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(requirement) for requirement in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ["", *requirement.extras]:
            if (name, extra) not in found:
                found.add((name, extra))
                declared = map(Requirement, declared_by(name))
                environment = {**platform, "extra": extra}
                waiting += [each for each in declared if each.marker is None or each.marker.evaluate(environment)]
    return {name for name, _ in found}


def declared_by(name: str) -> list[str]:
    """Of the runtimes, which need the same, only one may be installed."""
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:
        (other,) = set(RUNTIMES.values()) - {name}
        return distribution(other).requires or []


def needed_for(name: str) -> set[str]:
    """All that goes into a service with that runtime, or into building its image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = ["cyclonedx-bom", "hatchling"]
    if name in RUNTIMES:
        requirements = [*project["dependencies"], *extras[name], *extras["otel"]]
        requirements += extras["openvino"] if name == "cpu" else []
    return set().union(*(needed_by(requirements, platform) for platform in PLATFORMS))


@pytest.mark.parametrize("name", [*RUNTIMES, "build"])
def test_a_lock_has_exactly_what_is_needed_each_with_hashes(name, reliability):
    needed = needed_for(name)
    faults = faults_in(lock(name), pins(), needed)

    assert RUNTIMES.get(name, "hatchling") in needed
    assert len(needed) > 30
    assert not {"torch", "transformers"} & needed
    what = f"S3: {len(needed)} packages of docker/requirements-{name}.txt"
    reliability(what, "exactly the packages that are needed, each with hashes", str(faults or "so"), not faults)


@pytest.mark.parametrize(
    ("pattern", "replacement", "fault"),
    [
        (r"(?s)\nuvicorn==.*?\n(?=[a-z])", "\n", "uvicorn: not locked"),
        (r"\nuvicorn==\S+", r"\nuvicorn==0.1.0", "uvicorn 0.1.0: not in constraints.txt"),
        (r"\nuvicorn==\S+", r"\nuvicorn>=0.1.0", "no version with hashes"),
        (r"(?s)(\nuvicorn==\S+).*?\n(?=[a-z])", r"\1\n", "no version with hashes"),
        (r"\nuvicorn==", r"\n--index-url http://127.0.0.1/simple\nuvicorn==", "no version with hashes"),
        (r"\nuvicorn==\S+", r"\ntorch==2.13.0", "torch: nothing needs it"),
    ],
)
def test_control_a_fault_in_a_lock_is_found(pattern, replacement, fault):
    changed, count = re.subn(pattern, replacement, lock("cpu"), count=1)

    assert count == 1
    assert any(fault in found for found in faults_in(changed, pins(), needed_for("cpu")))


def install(requirements: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """As an image does: what is listed, nothing built, nothing else."""
    options = ["--require-hashes", "--no-deps", "--only-binary=:all:", "--no-compile", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), "-r", str(requirements)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


def test_pip_installs_exactly_the_lock(tmp_path, counts, reliability):
    if not counts(False, True):
        pytest.skip("installs from a package index: only in full")
    altered = tmp_path / "altered.txt"
    line = next(line for line in lines_of(lock("cpu")) if line.startswith("mdurl=="))
    altered.write_text(re.sub(r"sha256:(.)", lambda found: f"sha256:{'1' if found[1] == '0' else '0'}", line))
    refused = install(altered, tmp_path / "altered")
    if "DO NOT MATCH THE HASHES" not in refused.stderr:
        pytest.skip(f"pip cannot reach a package index here: {refused.stderr.strip().splitlines()[-1]}")
    assert refused.returncode != 0

    done = install(ROOT / "docker" / "requirements-cpu.txt", tmp_path / "installed")

    assert done.returncode == 0, done.stderr
    count = len(list((tmp_path / "installed").glob("*.dist-info")))
    assert count == len(lines_of(lock("cpu")))
    reliability("S3: pip with the lock, and with an altered hash", "installed; refused", f"{count} installed; refused")
