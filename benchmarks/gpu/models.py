"""A CLIP with random weights, and two versions of a task on it.

FOLDER/backbone     CLIP in transformers' format
FOLDER/merged       the task for PyTorch: merged CLIP, head, labels
FOLDER/store        a store with versions 1 and 2 of the task; version 2, which is live, has fp16 too
"""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import typer

from benchmarks.gpu.arguments import DryRun, Folder
from benchmarks.models import as_if_trained, write_backbone, write_config, write_merged
from benchmarks.siblings import sibling
from model_store import Manifest, Precision, Store, publish
from training.data.splits import load_data
from training.export.bundle import Bundle, export_task


def main(folder: Folder, dry_run: DryRun = False) -> None:
    """Write the models into FOLDER."""
    clock = time.monotonic()
    with redirect_stdout(sys.stderr):  # progress
        bundle, manifest = _make(folder, dry_run)
    backbone = manifest.backbone
    print(
        f"CLIP with random weights: {backbone.image_layers} + {backbone.text_layers} layers, {backbone.image_width} "
        f"and {backbone.text_width} wide, made and exported in {time.monotonic() - clock:.0f} s."
    )
    for check in bundle.precision_checks:
        print(f"{check}.")
    if Precision.FP16 not in manifest.graphs:
        sys.exit("fp16 was not accepted")


def _make(folder: Path, dry_run: bool) -> tuple[Bundle, Manifest]:
    for name in ("backbone", "merged", "store"):  # of an earlier run in this folder
        shutil.rmtree(folder / name, ignore_errors=True)
    write_backbone(folder / "backbone", tiny=dry_run)
    config = write_config(folder, "task-1", ("fp16",))
    data = load_data(config)
    first = as_if_trained(config, data, seed=1)
    bundle = export_task(first, {"validation": {}, "test": {}}, data, b"<html></html>")
    store = Store(folder / "store")
    other = sibling(bundle, as_if_trained(config, data, seed=2))
    publish(store, other.draft, other.blobs)
    manifest = publish(store, bundle.draft, bundle.blobs)
    shutil.copytree(folder / "backbone", folder / "merged", ignore=shutil.ignore_patterns("*.safetensors"))
    write_merged(folder / "merged", first, single_file=False)
    return bundle, manifest


if __name__ == "__main__":
    typer.run(main)
