"""The plan of an import: the layers and the head of a source that replace the backbone's."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.config import ImportedConfig, TaskConfig
from training.errors import SourceError
from training.model.backbone_sizes import split_layers
from training.model.backbones import load_backbone
from training.model.import_source import Head, read_head, read_source
from training.model.towers import Backbone, layer_counts

_IN_LAYER = re.compile(r"(vision|text)_model\.(?:encoder\.layers\.(\d+)|embeddings|pre_layrnorm)\.")


@dataclass(frozen=True)
class ImportPlan:
    """The result of reading a source and comparing it with the backbone, before any long work."""

    config: TaskConfig  # of the task, with `imported`
    imported: ImportedConfig
    towers: dict[str, Tensor]  # the tensors that differ from the backbone's, by name
    tensors: int  # the number of tensors in both towers
    layers: tuple[int, int]  # of the image and the text tower
    head: Head | None  # of the source; None: it must be fitted
    notes: tuple[str, ...]  # for the user


def plan_import(config: TaskConfig, path: Path, head_file: Path | None = None) -> ImportPlan:
    """Read a source, merge it, and compare it with the configured backbone tensor by tensor.

    Raises:
        SourceError, BackboneError: as `read_source`; or the head does not have one row for each configured label.
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
    first_image, first_text = _first_tail_layers(changed, source.towers, config)
    imported = ImportedConfig(
        kind=source.kind,
        sha256=_digest(path, head_file),
        head="fitted" if head is None else "taken",
        first_image_layer=first_image,
        first_text_layer=first_text,
    )
    config = config.model_copy(update={"method": "head", "imported": imported})
    return ImportPlan(config, imported, changed, len(towers), layer_counts(source.towers), head, source.notes)


def _first_tail_layers(changed: dict[str, Tensor], backbone: Backbone, config: TaskConfig) -> tuple[int, int]:
    """The first tail layers: those of `fit`, to share the trunk with its tasks, or lower ones if these have changed."""
    image, text = split_layers(*layer_counts(backbone), config.mora)
    first = {"vision": image, "text": text}
    for name in changed:
        if match := _IN_LAYER.match(name):
            first[match[1]] = min(first[match[1]], int(match[2] or 0))  # no number: it is below all layers
    return first["vision"], first["text"]


def _check_labels(config: TaskConfig, classes: int) -> None:
    if config.labels is None:
        raise SourceError(
            f"the head has {classes} rows, and the configuration does not name their labels: list `labels` in the "
            "order of the rows, in the configuration or as --labels '[first, second, ...]'"
        )
    if len(config.labels) != classes:
        raise SourceError(
            f"the head has {classes} rows, and the configuration lists {len(config.labels)} labels; "
            "list one for each row, in its order"
        )


def _digest(*paths: Path | None) -> str:
    """SHA-256 over the files of a source."""
    digest = hashlib.sha256()
    for path in filter(None, paths):
        for file in [path] if path.is_file() else sorted([*path.glob("*.safetensors"), *path.glob("*config.json")]):
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
