"""The Docker-free path of the extra `gpu`: the installed packages, and the shipped store served on the GPU."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import tomllib

import onnxruntime
import typer
from packaging.requirements import Requirement

from benchmarks.gpu.arguments import DryRun, Folder
from benchmarks.gpu.check import ROOT
from benchmarks.gpu.memory import used_mib
from benchmarks.mix import read_mix
from benchmarks.servers import ours, post, serving
from model_store import DEFAULT_STORE, Store
from service.models.graphs import has_cuda


def main(folder: Folder, dry_run: DryRun = False) -> None:
    """Print the packages that do not meet pyproject.toml, and one answer for each presence pattern."""
    extra = "cpu" if dry_run else "gpu"
    unmet = _unmet(extra)
    print(f"Packages of `pip install '.[{extra}]'`: {'; '.join(unmet) if unmet else 'all requirements are met'}.")
    print(f"ONNX Runtime {onnxruntime.__version__} offers {', '.join(onnxruntime.get_available_providers())}.\n")
    before = used_mib()
    with serving(ours(DEFAULT_STORE, "auto")) as server:
        task = Store(DEFAULT_STORE).tasks()[0]
        for item in {item.pattern: item for item in read_mix().items}.values():
            answer = post(server.url, json.dumps({**item.fields, "task": task}).encode())
            best = answer["labels"][0]
            print(f"- {item.pattern}: {best['label']} {best['score']:.3f}, {answer['latency_ms']['total']:.1f} ms")
        used = used_mib(server) - before
    print(f"\n{'GPU memory' if has_cuda() else 'Memory'} of the service: {used:.0f} MiB.")
    if not dry_run and (unmet or not has_cuda() or used < 1):
        sys.exit("the service does not use the GPU, or a requirement is not met")


def _unmet(extra: str) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    unmet = []
    for line in [*project["dependencies"], *project["optional-dependencies"][extra]]:
        requirement = Requirement(line)
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = "nothing"
        if not (version[0].isdigit() and requirement.specifier.contains(version, prereleases=True)):
            unmet.append(f"{version} for {requirement.name}{requirement.specifier}")
    return unmet


if __name__ == "__main__":
    typer.run(main)
