"""Run every check on this machine's GPU and write benchmarks/results/gpu.md.

    python -m benchmarks.gpu.check [--dry-run] [--only STEP] [--folder FOLDER]

Needs no package index, no `.git` folder and no Docker. A folder keeps the models and the results of the steps, so that
several runs share the models and make one page.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.sessions import stop_session

ROOT = Path(__file__).parents[2]
_RESULTS, _DRY_RESULTS = ROOT / "benchmarks" / "results" / "gpu.md", ROOT / "build" / "benchmarks" / "gpu.md"
_MODELS = "models"  # the step that the steps below it need
STEPS = {  # module: title and time limit in seconds
    "installation": ("The installation and the shipped store", 120),
    "training": ("Training", 180),
    _MODELS: ("Models of the other checks", 240),
    "answers": ("Answers of the GPU and of the CPU", 150),
    "throughput": ("Throughput and latency", 240),
    "saturation": ("What limits the service", 150),
    "replacement": ("Memory when a version is replaced", 120),
}
_PACKAGES = ("torch", "transformers", "litserve")
_RUNTIMES = ("onnxruntime-gpu", "onnxruntime")  # of one module; the first hides the second
_ERROR_LINES = 25
_STOP_SECONDS = 20  # after the interrupt of a step


@dataclass(frozen=True)
class Result:
    """The section of one step.

    Attributes:
        command: of the run that it belongs to.
        day: on which that run started.
    """

    title: str
    text: str
    seconds: float
    passed: bool
    command: str
    day: str


def main(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run every step on the CPU with small towers; writes below build/.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(help="Run these steps; may be repeated.")] = None,
    kept: Annotated[
        Path | None,
        typer.Option("--folder", help="Folder that keeps models and results; the page has the results of all runs."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File for the results.")] = None,
) -> None:
    """Check training and serving on the GPU of this machine, in about six minutes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that the running step is stopped
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it, and so would the steps
    names = only or list(STEPS)
    if unknown := set(names) - set(STEPS):
        raise typer.BadParameter(f"no step is called {', '.join(sorted(unknown))}; the steps are {', '.join(STEPS)}")
    if not dry_run and shutil.which("nvidia-smi") is None:
        raise typer.BadParameter("nvidia-smi is not installed, so there is no NVIDIA GPU; --dry-run runs on the CPU")
    console, file = Console(soft_wrap=True), output or (_DRY_RESULTS if dry_run else _RESULTS)
    file.parent.mkdir(parents=True, exist_ok=True)
    day, failed = f"{datetime.now(UTC):%Y-%m-%d}", []
    with nullcontext(kept) if kept else tempfile.TemporaryDirectory(prefix="mora-gpu-") as folder:
        results = Path(folder) / "results"
        results.mkdir(parents=True, exist_ok=True)
        for name in names:
            console.rule(STEPS[name][0])
            result = _run(name, Path(folder), dry_run, day)
            console.print(result.text, markup=False)
            (results / f"{name}.json").write_text(json.dumps(asdict(result)), encoding="utf-8")
            file.write_text(_page(_read(results)), encoding="utf-8")  # kept if a later step is killed
            failed += [] if result.passed else [result.title]
    console.print(f"written to {file}", highlight=False)
    if failed:
        console.print(f"failed: {', '.join(failed)}", style="red", markup=False)
        raise typer.Exit(1)


def _read(folder: Path) -> list[Result]:
    """The results in a folder, in the order of the steps."""
    files = [folder / f"{name}.json" for name in STEPS]
    return [Result(**json.loads(file.read_text(encoding="utf-8"))) for file in files if file.is_file()]


def _run(name: str, folder: Path, dry_run: bool, day: str) -> Result:
    title, limit = STEPS[name]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **({"CUDA_VISIBLE_DEVICES": ""} if dry_run else {})}
    clock = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        # A separate session, so that the helper processes of a step are stopped with it. The interrupt lets it stop its
        # servers, which have sessions of their own.
        process = subprocess.Popen(
            step_command(name, folder, dry_run),
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            text, status = process.communicate(timeout=limit)[0], f"exit status {process.returncode}"
        except subprocess.TimeoutExpired:
            stop_session(process, signal.SIGINT, _STOP_SECONDS)
            text, status = process.communicate()[0], f"stopped after {limit} s"
        except BaseException:
            stop_session(process, signal.SIGINT, _STOP_SECONDS)
            raise
        seconds = time.monotonic() - clock
        if process.returncode != 0:
            errors.seek(0)
            last = "\n".join(errors.read().splitlines()[-_ERROR_LINES:])
            text += f"\n**Failed** ({status}).\n\n```\n{last}\n```\n"
    return Result(title, text, seconds, process.returncode == 0, _command(), day)


def step_command(name: str, folder: Path, dry_run: bool) -> list[str]:
    """The command of one step."""
    return [sys.executable, "-m", f"benchmarks.gpu.{name}", str(folder), *(["--dry-run"] if dry_run else [])]


def _command() -> str:
    return "make gpu-check" + (f" GPU_CHECK={shlex.quote(shlex.join(sys.argv[1:]))}" if sys.argv[1:] else "")


def _page(results: list[Result]) -> str:
    runs = dict.fromkeys((each.command, each.day) for each in results)
    packages = [*_PACKAGES, *[name for name in _RUNTIMES if _version(name)][:1]]
    versions = ", ".join(f"{name} {version}" for name in packages if (version := _version(name)))
    lines = [
        "# On a GPU",
        "",
        "; ".join(f"`{command}`, {day}" for command, day in runs) + ".",
        "",
        f"- Machine: {gpu()}; {len(os.sched_getaffinity(0))} cores",
        f"- Versions: Python {sys.version.split()[0]}, {versions}",
        f"- Time: {sum(each.seconds for each in results) / 60:.1f} minutes",
        "",
        "| check | result | seconds |\n|---|---|---|",
        *(f"| {each.title} | {'passed' if each.passed else '**failed**'} | {each.seconds:.0f} |" for each in results),
    ]
    for each in results:
        lines += ["", f"## {each.title}", "", each.text.strip()]
    return "\n".join(lines) + "\n"


def gpu() -> str:
    """Name, driver and memory of the GPU, or that there is none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or shutil.which("nvidia-smi") is None:
        return "no GPU"
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    name, memory, driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().split(", ")
    return f"{name}, {memory}, driver {driver}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    typer.run(main)
