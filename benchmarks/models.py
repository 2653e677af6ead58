"""Create the models for the servers: a CLIP with random weights, and tasks on it.

    python -m benchmarks.models FOLDER [--tiny]

    FOLDER/backbone     CLIP in transformers' format
    FOLDER/merged       the first task for the other servers: merged CLIP, head, labels, and one ONNX model of all
    FOLDER/one          a store with the first task, in every precision that the export accepted
    FOLDER/eight        a store with the first task and seven more on the same trunks, in fp32
    FOLDER/about.json   precisions, shapes, machine

Speed does not depend on the values of the weights, so nothing is trained: adapters and heads get random values.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from rich.console import Console
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from benchmarks.mix import TOKENIZER, jpeg
from benchmarks.siblings import sibling
from model_store import Calibration, Pattern, Store, publish
from service.models.graphs import has_cuda
from training.config import TaskConfig
from training.data.splits import TaskData, load_data
from training.export.bundle import export_task
from training.export.onnx_graphs import export_single_file
from training.learning.runs import TrainedTask, build
from training.provenance import machine

TASKS = 8
_LABELS = [f"label {number}" for number in range(14)]  # as many as clipart-category has
_TINY: dict[str, Any] = {
    "vision_config": {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 4},
    "text_config": {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 4},
    "projection_dim": 64,
}
_FULL: dict[str, Any] = {"vision_config": {}, "text_config": {}}  # transformers' defaults: ViT-B of 512 dimensions


def write_backbone(folder: Path, tiny: bool) -> None:
    """CLIP with random weights, patches of 16 pixels and texts of 77 tokens, and the tokenizer of the drawings."""
    folder.mkdir(parents=True)
    shutil.copy(TOKENIZER, folder)
    settings = json.loads(TOKENIZER.with_name("tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 77}))
    CLIPImageProcessorPil().save_pretrained(folder)
    start, end = (json.loads(TOKENIZER.read_text())["model"]["vocab"][settings[n]] for n in ("bos_token", "eos_token"))
    shapes = _TINY if tiny else _FULL
    config = CLIPConfig(
        **{name: value for name, value in shapes.items() if not name.endswith("_config")},
        vision_config={**shapes["vision_config"], "patch_size": 16},
        text_config={**shapes["text_config"], "bos_token_id": start, "eos_token_id": end, "pad_token_id": end},
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)


def write_config(folder: Path, task: str, precisions: Sequence[str]) -> TaskConfig:
    """A configuration of a small single-label task whose data is written into `folder`."""
    rows = [
        {"image": jpeg(number), "text": f"a drawing of {label}", "label": label} for number, label in enumerate(_LABELS)
    ]
    for split, count in (("train", len(rows)), ("validation", 3), ("test", 3)):
        pq.write_table(pa.Table.from_pylist(rows[:count]), folder / f"{split}.parquet")
    return TaskConfig.model_validate(
        {
            "task": task,
            "problem": "single_label",
            "backbone": str(folder / "backbone"),
            "labels": _LABELS,
            "data": {split: str(folder / f"{split}.parquet") for split in ("train", "validation", "test")},
            # Random weights have no accuracy to lose.
            "export": {"accuracy_budget": 100, "precisions": precisions},
        }
    )


def as_if_trained(config: TaskConfig, data: TaskData, seed: int) -> TrainedTask:
    """A task whose trained parameters have random values."""
    model, preprocessor = build(config, len(data.labels))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.state_dict().values():
            value += 0.05 * torch.randn(value.shape, generator=generator)
    calibration = {pattern: Calibration() for pattern in Pattern}
    mix = {str(pattern): 1 / 3 for pattern in Pattern}
    return TrainedTask(config, data.labels, data.fingerprint, mix, calibration, model.eval(), preprocessor)


def write_merged(folder: Path, trained: TrainedTask, single_file: bool) -> None:
    """The merged task as plain files: for transformers and, if `single_file`, as one ONNX model."""
    model = trained.model
    model.backbone.save_pretrained(folder)
    save_file(
        {name: value.detach().clone() for name, value in model.head.named_parameters()}, folder / "head.safetensors"
    )
    (folder / "labels.json").write_text(json.dumps(trained.labels))
    if single_file:
        (folder / "model.onnx").write_bytes(export_single_file(model))


def main(
    folder: Annotated[Path, typer.Argument(help="Folder for the models; new or empty.")],
    tiny: Annotated[bool, typer.Option("--tiny", help="Small towers instead of ViT-B/16.")] = False,
) -> None:
    """Create the models of one benchmark."""
    console = Console()
    console.print("a CLIP with random weights", "(tiny)" if tiny else "(ViT-B/16)")
    write_backbone(folder / "backbone", tiny)
    config = write_config(folder, "task-1", ["bf16", "int8", *(["fp16"] if has_cuda() else [])])
    data = load_data(config)
    console.print("exporting the first task")
    first = as_if_trained(config, data, seed=1)
    bundle = export_task(first, {"validation": {}, "test": {}}, data, b"<html></html>")
    manifest = publish(Store(folder / "one"), bundle.draft, bundle.blobs)
    shutil.copytree(folder / "one", folder / "eight")
    console.print("exporting the first task as one ONNX model")
    shutil.copytree(folder / "backbone", folder / "merged", ignore=shutil.ignore_patterns("*.safetensors"))
    write_merged(folder / "merged", first, single_file=True)
    for number in range(2, TASKS + 1):
        console.print(f"exporting the tails of task {number} of {TASKS}")
        task = config.model_copy(update={"task": f"task-{number}"})
        more = sibling(bundle, as_if_trained(task, data, seed=number))
        publish(Store(folder / "eight"), more.draft, more.blobs)
    backbone = manifest.backbone
    widths = f"{backbone.image_width} and {backbone.text_width} wide"
    shapes = f"CLIP with random weights, {backbone.image_layers} + {backbone.text_layers} layers, {widths}"
    about = {"precisions": [*manifest.graphs], "backbone": shapes, "machine": machine(), "gpu": has_cuda()}
    (folder / "about.json").write_text(json.dumps(about))


if __name__ == "__main__":
    typer.run(main)
