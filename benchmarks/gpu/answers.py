"""Logits by the CUDA provider, alone and in batches, against those by the CPU provider in fp32."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.gpu.arguments import DryRun, Folder
from benchmarks.mix import Mix, read_mix
from model_store import Pattern, Precision, Store
from service.api.item import Item
from service.inference.forward import stack
from service.models.graphs import Graph, has_cuda
from service.models.head import Features
from service.models.loaded_model import Model
from service.models.loading import Loader
from service.models.preparation import Prepared
from service.settings import Settings

_BATCHES = (1, 2, 3, 8, 16, 33, 64)
_ITEMS = 64
_MAX_ERROR = {Precision.FP32: 1e-4, Precision.FP16: 2e-2}  # of a logit
_MAX_CHANGED = 0.01
_REFERENCE = "answers.npz"


def main(
    folder: Folder,
    dry_run: DryRun = False,
    reference: Annotated[bool, typer.Option("--reference", help="Write the CPU's logits, and end.")] = False,
) -> None:
    """Print the largest differences for each precision and batch size."""
    items = 8 if dry_run else _ITEMS
    if reference:
        model = _load(folder, Precision.FP32)
        inputs = [_inputs(model, pattern, items) for pattern in Pattern]
        np.savez(folder / _REFERENCE, *(_logits(model, pattern, 1) for pattern in inputs))
        return
    command = [sys.executable, "-m", "benchmarks.gpu.answers", str(folder), "--reference"]
    command += ["--dry-run"] if dry_run else []
    subprocess.run(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, check=True, stdout=sys.stderr)
    expected = [*np.load(folder / _REFERENCE).values()]
    print(f"{items} items of each presence pattern, by the {'CUDA' if has_cuda() else 'CPU'} provider with IO binding.")
    print("Differences are from the CPU's fp32 logits, which are", end=" ")
    print(f"{np.abs(expected).mean():.2f} in size on average; changed answers are changes of the best label.\n")
    print("| precision | batch | largest logit difference | changed answers | largest change of a score by the batch |")
    print("|---|---|---|---|---|")
    faults = []
    for precision in (Precision.FP32, Precision.FP16):
        model = _load(folder, precision)
        inputs = [_inputs(model, pattern, items) for pattern in Pattern]
        alone = None
        for batch in (size for size in _BATCHES if size <= items):
            logits = np.stack([_logits(model, pattern, batch) for pattern in inputs])
            alone = logits if alone is None else alone
            error = np.abs(logits - expected).max()
            changed = (logits.argmax(-1) != np.stack(expected).argmax(-1)).mean()
            by_batch = np.abs(_softmax(logits) - _softmax(alone)).max()
            print(f"| {precision} | {batch} | {error:.1e} | {changed:.1%} | {by_batch:.1e} |", flush=True)
            if not error <= _MAX_ERROR[precision] or changed > _MAX_CHANGED:
                faults.append(
                    f"{precision}, batch of {batch}: more than {_MAX_ERROR[precision]:g}, or than 1 % changed"
                )
        if has_cuda() and {graph.device for graph in _graphs(model)} != {"cuda"}:
            faults.append(f"{precision}: a graph does not run on the GPU")
    if faults:
        sys.exit("\n".join(faults))


def _load(folder: Path, precision: Precision) -> Model:
    settings = Settings.model_validate({"store": folder / "store", "precision": precision.value})
    return Loader(Store(folder / "store"), settings).load("task-1", 2)  # runs the golden examples


def _graphs(model: Model) -> list[Graph]:
    return [graph for tower in (model.image_tower, model.text_tower) for graph in (tower.trunk, tower.tail.graph)]


def _inputs(model: Model, pattern: Pattern, count: int) -> list[Prepared]:
    """Prepared items of a pattern; pictures and texts of the mix stand in turn for as many as are needed."""
    mix: Mix = read_mix()
    images = [item.image for item in mix.items if item.image is not None]
    texts = [item.text for item in mix.items if item.text is not None]
    return [
        model.prepare(
            Item(
                None if pattern is Pattern.TEXT else images[row % len(images)],
                None if pattern is Pattern.IMAGE else texts[row % len(texts)],
            )
        )
        for row in range(count)
    ]


def _logits(model: Model, items: list[Prepared], batch: int) -> NDArray[np.float32]:
    """(items, C)"""
    logits = []
    for start in range(0, len(items), batch):
        part = items[start : start + batch]
        images: list[NDArray[np.float32] | None] = [None] * len(part)
        texts = [*images]
        if part[0].pixel_values is not None:
            pixels = [each.pixel_values for each in part if each.pixel_values is not None]
            images = [*model.image_tower.features(stack(pixels))]
        tokens = [each.tokens for each in part if each.tokens is not None]
        if tokens:
            last = np.concatenate([each.last_token for each in tokens])
            texts = [*model.text_tower.features(stack([each.input_ids for each in tokens]), last)]
        logits += [model.logits(Features(image, text)) for image, text in zip(images, texts, strict=True)]
    return np.stack(logits)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


if __name__ == "__main__":
    typer.run(main)
