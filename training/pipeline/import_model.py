"""Take over what was trained elsewhere: keep the trunk where it is the backbone's, take or fit a head."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from model_store.atomic_file import atomic_file
from training.config import ImportedConfig, TaskConfig
from training.data.splits import TaskData
from training.errors import SourceError
from training.learning.runs import TOWERS, TrainedTask
from training.model.backbones import load_backbone
from training.model.classifier import split_layers
from training.model.import_source import read_source
from training.model.imported_head import Head, read_head
from training.model.towers import Backbone, layer_counts
from training.pipeline.fit import discard, fit, open_run

_IN_LAYER = re.compile(r"(vision|text)_model\.encoder\.layers\.(\d+)\.")
_BEFORE_LAYERS = re.compile(r"(vision|text)_model\.(?:embeddings|pre_layrnorm)\.")


@dataclass(frozen=True)
class ImportPlan:
    """What will be done with a source, decided before any long work.

    Attributes:
        config: the task's, with `imported`.
        towers: the tensors that differ from the backbone's, by their names there; of `tensors` in all.
        head: the source's own; None where one has to be fitted.
    """

    config: TaskConfig
    imported: ImportedConfig
    towers: dict[str, Tensor]
    tensors: int
    layers: tuple[int, int]  # of the image and the text tower
    head: Head | None
    notes: tuple[str, ...]


def plan_import(config: TaskConfig, path: Path, head_file: Path | None = None) -> ImportPlan:
    """Read a source, merge it, and compare it with the configured backbone tensor by tensor.

    Raises:
        SourceError, BackboneError: as `read_source`; or the head has other labels than the configuration.
    """
    source = read_source(path, config.backbone)
    head = source.head if head_file is None else read_head(head_file, source.towers)
    if head is not None:
        _check_labels(config, len(head["head.bias"]))
    merged, original = source.towers.state_dict(), load_backbone(config.backbone).state_dict()
    towers = {name: value for name, value in merged.items() if not name.startswith("logit_")}
    changed = {name: value.contiguous() for name, value in towers.items() if not torch.equal(value, original[name])}
    if not all(bool(value.isfinite().all()) for value in changed.values()):
        raise SourceError(f"{path} holds weights that are not finite; it cannot be served")
    layers = layer_counts(source.towers)
    first_image, first_text = _splits(changed, source.towers, config)
    imported = ImportedConfig(
        kind=source.kind,
        sha256=_digest(path, head_file),
        head="fitted" if head is None else "taken",
        first_image_layer=first_image,
        first_text_layer=first_text,
    )
    found = config.model_copy(update={"method": "head", "imported": imported})
    return ImportPlan(found, imported, changed, len(towers), layers, head, source.notes)


def import_model(
    plan: ImportPlan,
    data: TaskData,
    folder: Path,
    announce: Callable[[str], None] = print,
    overwrite: bool = False,
) -> TrainedTask:
    """Write the towers into `folder`, take or fit the head, calibrate and evaluate: a run as `fit` leaves it."""
    if overwrite:
        discard(folder)
    open_run(folder, plan.config, data)
    with atomic_file(folder / TOWERS) as file:
        file.write(safetensors.torch.save(plan.towers))
    return fit(plan.config, data, folder, announce, head=plan.head)


def _splits(changed: dict[str, Tensor], backbone: Backbone, config: TaskConfig) -> tuple[int, int]:
    """Where the tails begin: where `fit` would let them, so that the trunk is one with its; lower if that differs."""
    image, text = split_layers(*layer_counts(backbone), config.mora)
    first = {"vision": image, "text": text}
    for name in changed:
        if match := _IN_LAYER.match(name):
            first[match[1]] = min(first[match[1]], int(match[2]))
        elif match := _BEFORE_LAYERS.match(name):
            first[match[1]] = 0
    return first["vision"], first["text"]


def _check_labels(config: TaskConfig, classes: int) -> None:
    if config.labels is None:
        raise SourceError(
            f"the head has {classes} rows, but nothing says which label each stands for: list `labels` in the order of "
            "the head, in the configuration or as --labels '[first, second, ...]'"
        )
    if len(config.labels) != classes:
        raise SourceError(
            f"the head has {classes} rows, and the configuration lists {len(config.labels)} labels; "
            "list one for each row, in its order"
        )


def _digest(*paths: Path | None) -> str:
    """SHA-256 over the files that a source consists of."""
    digest = hashlib.sha256()
    for path in filter(None, paths):
        for file in [path] if path.is_file() else sorted([*path.glob("*.safetensors"), *path.glob("*config.json")]):
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
