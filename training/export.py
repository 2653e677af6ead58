"""Merge a trained task, export it, prove that the graphs agree with PyTorch, and describe it for the store."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from model_store import (
    Backbone,
    Blob,
    GoldenExample,
    Graphs,
    ManifestDraft,
    Pattern,
    Precision,
    Provenance,
    blob_of,
)
from training.batches import RawInputs
from training.data import Split
from training.errors import ExportError
from training.golden import pattern_items, small_png
from training.graphs import export_graphs
from training.items import Item
from training.parity import OnnxModel, Reference, compare
from training.provenance import code_version, package_versions
from training.runs import TrainedTask
from training.towers import feature_size

MAX_LOGIT_ERROR = 1e-4
GOLDEN_ITEMS = 2  # per presence pattern


@dataclass(frozen=True)
class Bundle:
    """A task ready to be published: its manifest without a version, and every blob by SHA-256."""

    draft: ManifestDraft
    blobs: dict[str, bytes]


def export_task(trained: TrainedTask, metrics: dict[str, Any], examples: Split, report: bytes) -> Bundle:
    """Merge the adapter and export the task.

    Args:
        metrics: the run's metrics.json.
        examples: items to compare ONNX with PyTorch on and to pick golden examples from (the validation split).
        report: the run's report.html.

    Raises:
        ExportError: on some item the graphs' logits are further than 1e-4 from the merged PyTorch model's.
    """
    model, preprocessor = trained.model.cpu().eval(), trained.preprocessor
    model.adapter.merge()
    files = export_graphs(model)
    absent = _absent_features(trained)
    reference = Reference(trained)
    errors = compare(OnnxModel(files, absent, model.head), reference, examples)
    worst = max(errors.values())
    if not math.isfinite(worst):
        raise ExportError("the model's logits are not finite: training diverged. Lower train.learning_rate")
    if not worst <= MAX_LOGIT_ERROR:
        raise ExportError(
            f"the exported graphs differ from PyTorch by {worst:.1e} in a logit, more than {MAX_LOGIT_ERROR:.0e}; "
            "nothing is published. Check the versions of torch and onnxruntime against constraints.txt"
        )
    blobs = _Blobs()
    graphs = {name: blobs.add(data) for name, data in files.by_name().items()}
    config = trained.config
    draft = ManifestDraft(
        task=config.task,
        problem=config.problem,
        labels=trained.labels,
        backbone=_backbone(trained),
        image=preprocessor.image_description(),
        text=preprocessor.text_description(),
        graphs={Precision.FP32: Graphs(**graphs, max_logit_error=errors)},
        absent_features=blobs.add(safetensors.torch.save(absent)),
        head=blobs.add(safetensors.torch.save(_head_by_pattern(model.head))),
        calibration=trained.calibration,
        golden=tuple(_golden(examples, reference, blobs)),
        metrics={name: metrics[name] for name in ("validation", "test")},
        training_mix={Pattern(name): share for name, share in trained.training_mix.items()},
        report=blobs.add(report),
        provenance=Provenance(
            code_version=code_version(),
            created_at=datetime.now(UTC),
            seed=config.train.seed,
            dataset_fingerprint=trained.dataset_fingerprint,
            config=config.model_dump(mode="json"),
            packages=package_versions(),
        ),
    )
    blobs.add(preprocessor.tokenizer_file())
    return Bundle(draft, blobs.content)


def _golden(examples: Split, reference: Reference, blobs: _Blobs) -> Iterator[GoldenExample]:
    for pattern in Pattern:
        for item in pattern_items(examples, pattern)[:GOLDEN_ITEMS]:
            image = small_png(item.image) if item.image is not None else None
            logits = reference.logits([Item(item.row, image, item.text, item.labels)])[0]
            yield GoldenExample(
                pattern=pattern,
                image=blobs.add(image) if image is not None else None,
                text=item.text,
                logits=tuple(logits.tolist()),
            )


def _absent_features(trained: TrainedTask) -> dict[str, Tensor]:
    model, inputs = trained.model, RawInputs(trained.preprocessor)
    with torch.no_grad():
        image, text = model.features(**inputs.images([]), **inputs.texts([]))
    return {"image": image[0].contiguous(), "text": text[0].contiguous()}


def _head_by_pattern(head: torch.nn.Linear) -> dict[str, Tensor]:
    """Equal for every pattern: heads of their own did not help (docs/method.md)."""
    return {
        f"{pattern}.{name}": value.detach().clone()
        for pattern in Pattern
        for name, value in (("weight", head.weight), ("bias", head.bias))
    }


def _backbone(trained: TrainedTask) -> Backbone:
    model = trained.model
    vision, text = model.backbone.config.vision_config, model.backbone.config.text_config
    return Backbone(
        name=trained.config.backbone,
        family=model.backbone.config.model_type,
        image_width=vision.hidden_size,
        text_width=text.hidden_size,
        feature_size=feature_size(model.backbone),
        image_layers=vision.num_hidden_layers,
        text_layers=text.num_hidden_layers,
        image_first_tail_layer=model.image_split,
        text_first_tail_layer=model.text_split,
    )


class _Blobs:
    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    def add(self, data: bytes) -> Blob:
        blob = blob_of(data)
        self.content[blob.sha256] = data
        return blob
