"""A task trained on the GPU in bf16, twice with one seed."""

from __future__ import annotations

import json
import shutil
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from safetensors.torch import load_file

from benchmarks.gpu.arguments import DryRun, Folder
from benchmarks.gpu.check import ROOT
from benchmarks.mix import HELD_OUT, jpeg
from training.config import TaskConfig
from training.data.splits import load_data
from training.pipeline.fit import fit

_RUNS = ("first", "second")
_ROWS, _DRY_ROWS = 360, 60
_LEAST_ACCURACY = 0.6  # of three labels that are equally frequent


def main(folder: Folder, dry_run: DryRun = False) -> None:
    """Train on pictures and texts of the shipped drawings, of which every third item lacks one."""
    for name in _RUNS:  # of an earlier run in this folder, which would be resumed
        shutil.rmtree(folder / name, ignore_errors=True)
    config = _config(folder, _DRY_ROWS if dry_run else _ROWS, epochs=2 if dry_run else 10)
    with redirect_stdout(sys.stderr):  # progress
        data = load_data(config)
    scores, weights, seconds = [], [], []
    for run in _RUNS:
        clock = time.monotonic()
        with redirect_stdout(sys.stderr):
            fit(config, data, folder / run)
        seconds.append(time.monotonic() - clock)
        scores.append(json.loads((folder / run / "metrics.json").read_text())["test"])
        weights.append(load_file(folder / run / "adapter.safetensors"))
    differences = [float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]]
    accuracy = {pattern: values["accuracy"] for pattern, values in scores[0].items() if isinstance(values, dict)}
    device = "cpu"
    if torch.cuda.is_available():
        device = f"cuda, at most {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB"
    print(f"MoRA on the shipped backbone in bf16 on {device}: {len(data.train.items)} items, {config.train.epochs}")
    print(f"epochs, {seconds[0]:.0f} s and {seconds[1]:.0f} s.")
    print("Test accuracy:", ", ".join(f"{name} {value:.3f}" for name, value in accuracy.items() if value is not None))
    print(f"Largest difference of a weight between the two runs: {max(differences):.1e}.")
    if max(differences) > 0 or scores[0] != scores[1]:
        sys.exit("two runs with one seed differ")
    if not dry_run and (device == "cpu" or accuracy["both"] < _LEAST_ACCURACY):
        sys.exit("training did not run on the GPU, or did not learn")


def _config(folder: Path, rows: int, epochs: int) -> TaskConfig:
    drawings = sorted(HELD_OUT.glob("*.png"))
    items = [
        {
            "image": None if number % 6 == 1 else jpeg(number),
            "text": None if number % 6 == 4 else f"drawing {number % len(drawings)}",
            "label": drawings[number % len(drawings)].stem,
        }
        for number in range(rows)
    ]
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(items), folder / "drawings.parquet")
    return TaskConfig.model_validate(
        {
            "task": "drawings",
            "problem": "single_label",
            "backbone": str(ROOT / "examples" / "openclipart" / "backbone"),
            "data": {"train": str(folder / "drawings.parquet")},
            "mora": {"first_layer": 3},
            "train": {"epochs": epochs, "batch_size": 32, "precision": "bf16", "probe": False},
        }
    )


if __name__ == "__main__":
    typer.run(main)
