"""All measurements in one run on one machine: `python -m benchmarks.run [--quick]`.

Exits with a non-zero status if a measurement failed, but not if the machine is slow or a goal is not reached.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.goals import goals
from benchmarks.measurements import FULL, QUICK, Bench
from benchmarks.mix import read_mix
from benchmarks.page import write_results
from model_store.processor import has_amx, processor_fields

ROOT = Path(__file__).parents[1]
_RESULTS, _QUICK_RESULTS = ROOT / "benchmarks" / "results", ROOT / "build" / "benchmarks"
_RIVALS = ("litserve", "fastapi", "uvicorn", "aiohttp")


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run: small towers, short measurements.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; by default the processor's in benchmarks/results."),
    ] = None,
    models: Annotated[
        Path | None, typer.Option(help="Keep the models in this folder, and use them again if they exist.")
    ] = None,
) -> None:
    """Measure the authors' way, LitServe, the bare runtime and our own server on the same weights and requests."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that the servers are stopped
    output = output or (_QUICK_RESULTS if quick else _RESULTS / processor_family())
    console = Console(soft_wrap=True)
    started, clock, busy = datetime.now(UTC), time.monotonic(), os.getloadavg()[0]
    with _models(models, quick, console) as folder:
        about = json.loads((folder / "about.json").read_text())
        bench = Bench(folder, about["precisions"], read_mix(), QUICK if quick else FULL, console)
        try:
            bench.run()
        finally:
            results = {
                "machine": about["machine"],
                "gpu": about["gpu"],
                "rivals": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _RIVALS),
                "backbone": about["backbone"],
                "command": shlex.join(["python", "-m", "benchmarks.run", *sys.argv[1:]]),
                "started": started.isoformat(timespec="minutes"),
                "minutes": round((time.monotonic() - clock) / 60, 1),
                "load_before": busy,
                "quick": quick,
                "failures": bench.failures,
                "figures": bench.figures,
            }
            write_results(output, results)
    _print_goals(console, bench)
    console.print(f"{results['minutes']:.0f} minutes; written to {output}", highlight=False)
    if bench.failures:
        raise typer.Exit(1)


def processor_family() -> str:
    """A short name for processors of alike speed, such as `intel-amx` or `amd`."""
    vendors = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}
    vendor = vendors.get(processor_fields().get("vendor_id", ""), platform.machine())
    return f"{vendor}-amx" if has_amx() else vendor


@contextmanager
def _models(kept: Path | None, quick: bool, console: Console) -> Iterator[Path]:
    """A folder with the models. They are made in a separate process, so that the client has no threads of PyTorch."""
    with tempfile.TemporaryDirectory(prefix="mora-bench-") as temporary:
        folder = kept or Path(temporary) / "models"
        if not (folder / "about.json").is_file():
            console.rule("models")
            command = [sys.executable, "-m", "benchmarks.models", str(folder), *(["--tiny"] if quick else [])]
            if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
                console.print("the models could not be made; the lines above state the reason", style="red")
                raise typer.Exit(1)
        yield folder


def _print_goals(console: Console, bench: Bench) -> None:
    table = Table("figure", "goal", "measured", "reached")
    for goal in goals(bench.figures):
        measured = "" if goal.figure is None else f"{goal.figure:.3g}{goal.unit}"
        table.add_row(goal.name, goal.limit, measured, goal.verdict, style=None if goal.reached else "yellow")
    console.print(table)
    for failure in bench.failures:
        console.print(f"failed: {failure}", style="red", markup=False)


if __name__ == "__main__":
    typer.run(main)
