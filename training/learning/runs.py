"""A run directory: what `fit` writes and every later command reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from model_store import Calibration, Pattern
from model_store.atomic_file import atomic_file
from model_store.items.labels import labels_of
from training.config import TaskConfig
from training.errors import RunError
from training.model.backbones import load_backbone
from training.model.classifier import MissingModalityClassifier
from training.model.preprocessing import Preprocessor
from training.model.towers import Backbone

ADAPTER = "adapter.safetensors"
TOWERS = "towers.safetensors"  # of an imported task: the backbone's weights that are replaced
ADAPTER_CONFIG = "adapter_config.json"
METRICS = "metrics.json"
REPORT = "report.html"
HISTORY = "history.json"  # what the Trainer logged


@dataclass(frozen=True)
class TrainedTask:
    """A trained model with what is needed to evaluate and export it."""

    config: TaskConfig
    labels: tuple[str, ...]
    dataset_fingerprint: str
    training_mix: dict[str, float]
    calibration: dict[Pattern, Calibration]
    model: MissingModalityClassifier
    preprocessor: Preprocessor


def build(
    config: TaskConfig, classes: int, folder: Path | None = None
) -> tuple[MissingModalityClassifier, Preprocessor]:
    """The untrained model of a configuration, and its backbone's preprocessing.

    Args:
        folder: the run, which holds the towers of an imported task. Raises RunError when they do not fit.
    """
    backbone = load_backbone(config.backbone)
    if config.imported is not None and folder is not None:
        _replace_towers(backbone, folder / TOWERS)
    return MissingModalityClassifier(backbone, config, classes), Preprocessor(config.backbone, backbone.config)


def _replace_towers(backbone: Backbone, path: Path) -> None:
    try:
        found = backbone.load_state_dict(load_file(path), strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: of other shapes
        reason = str(error).strip().splitlines()[-1].strip()
        raise RunError(f"{path} cannot be read or does not fit the backbone ({reason}); import it again") from error
    if found.unexpected_keys:
        raise RunError(f"{path} does not fit the backbone, which has no {found.unexpected_keys[0]}; import it again")


def save_trained(folder: Path, trained: TrainedTask) -> None:
    """Write adapter and head (`adapter.safetensors`) and what they mean (`adapter_config.json`, PEFT's file names)."""
    config, model = trained.config, trained.model
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / ADAPTER)
    towers = model.backbone.config
    layers = towers.vision_config.num_hidden_layers, towers.text_config.num_hidden_layers
    description = {
        "peft_type": config.method.upper(),
        "base_model_name_or_path": config.backbone,
        "r": config.mora.rank,
        "target_modules": list(config.mora.target_modules),
        "layers_to_transform": {
            "image": list(range(model.image_split, layers[0])),
            "text": list(range(model.text_split, layers[1])),
        },
        "parametrization": config.mora.parametrization,
        "labels": list(trained.labels),
        "dataset_fingerprint": trained.dataset_fingerprint,
        "training_mix": trained.training_mix,
        "calibration": {pattern.value: found.model_dump() for pattern, found in trained.calibration.items()},
        "task_config": config.model_dump(mode="json"),
    }
    write_json(folder / ADAPTER_CONFIG, description)


def load_trained(folder: Path, backbone: str | None = None) -> TrainedTask:
    """Read a finished run; `backbone` replaces the one it was trained on, if that has moved. Raises RunError."""
    description = read_json(folder / ADAPTER_CONFIG)
    try:
        config = TaskConfig.model_validate(description["task_config"])
        labels, fingerprint, mix = (description[name] for name in ("labels", "dataset_fingerprint", "training_mix"))
        calibration = {Pattern(name): Calibration(**found) for name, found in description["calibration"].items()}
        adapter = load_file(folder / ADAPTER)
    except (KeyError, ValueError, SafetensorError) as error:
        raise RunError(
            f"{folder} was written by another version or is damaged ({error}); train it again with --overwrite"
        ) from error
    if backbone is not None:
        config = config.model_copy(update={"backbone": backbone})
    model, preprocessor = build(config, len(labels), folder)
    model.load_state_dict(adapter)
    model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return TrainedTask(config, labels_of(labels), fingerprint, mix, calibration, model, preprocessor)


def is_finished(folder: Path) -> bool:
    """Whether `fit` came to its end here: metrics are written last."""
    return (folder / METRICS).is_file() and (folder / ADAPTER_CONFIG).is_file() and (folder / ADAPTER).is_file()


def read_report(folder: Path) -> bytes:
    """The report of a finished run. Raises RunError when it is missing."""
    try:
        return (folder / REPORT).read_bytes()
    except OSError as error:
        raise RunError(f"{folder / REPORT} cannot be read ({error}); train it again with --overwrite") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run. Raises RunError when it is missing or broken."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is not a JSON object")
        return found
    except (OSError, ValueError) as error:
        cure = f"if {path.parent} is a run of `mora-train fit`, train it again with --overwrite"
        raise RunError(f"{path} cannot be read ({error}); {cure}") from error


def write_json(path: Path, value: object) -> None:
    """Write a JSON file of a run, whole or not at all."""
    with atomic_file(path) as file:
        file.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
