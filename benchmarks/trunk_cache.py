"""The speed-up of training by cached trunk outputs, at the shapes of CLIP ViT-B/16 (random weights).

    python -m benchmarks.trunk_cache --items 48 --epochs 15

Both runs are the same `fit`, with and without `train.cache_trunk`. The time with the cache includes computing it.
"""

from __future__ import annotations

import json
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from PIL import Image
from rich.console import Console
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from training.config import TaskConfig
from training.data.splits import load_data
from training.pipeline.fit import fit
from training.provenance import machine

LABELS = ("one", "two", "three")


def write_backbone(folder: Path) -> None:
    """CLIP ViT-B/16 with random weights, and a tokenizer of single letters."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config={"patch_size": 16}, text_config={"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    )
    CLIPModel(config).save_pretrained(folder)


def write_items(path: Path, count: int, seed: int) -> None:
    """Pictures of noise at the model's size, and texts of 10 to 75 tokens."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        file = BytesIO()
        Image.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)).save(file, "JPEG")
        words = " ".join(rng.choice(list("abcdefgh"), rng.integers(10, 75)))
        rows.append({"image": file.getvalue(), "text": words, "label": LABELS[number % len(LABELS)]})
    pq.write_table(pa.Table.from_pylist(rows), path)


def bench(
    items: Annotated[int, typer.Option(help="Training items; validation and test have a third of this each.")] = 48,
    epochs: Annotated[int, typer.Option(help="Epochs of each run.")] = 15,
    ratio: Annotated[float, typer.Option(help="Missing ratio of every split.")] = 0.7,
    output: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Time `fit` with and without the trunk cache."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_backbone(folder / "backbone")
        paths = {split: folder / f"{split}.parquet" for split in ("train", "validation", "test")}
        for seed, (split, path) in enumerate(paths.items()):
            write_items(path, items if split == "train" else max(items // 3, 3), seed)
        seconds = {}
        for cached in (True, False):
            config = TaskConfig.model_validate(
                {
                    "task": "bench",
                    "problem": "single_label",
                    "backbone": str(folder / "backbone"),
                    "data": {split: str(path) for split, path in paths.items()},
                    "missing": {split: {"ratio": ratio} for split in paths},
                    "train": {
                        "epochs": epochs,
                        "batch_size": 16,
                        "cache_trunk": cached,
                        "probe": False,
                        "patience": None,
                    },
                }
            )
            data = load_data(config)
            started = time.monotonic()
            fit(config, data, folder / f"cached-{cached}")
            seconds[cached] = time.monotonic() - started
    figures = {
        "items": items,
        "epochs": epochs,
        "missing_ratio": ratio,
        "seconds_with_cache": round(seconds[True], 1),
        "seconds_without": round(seconds[False], 1),
        "times_faster": round(seconds[False] / seconds[True], 2),
        "machine": machine(),
    }
    Console().print_json(data=figures)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(bench)
