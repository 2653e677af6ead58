"""Trained tasks: built from a configuration, saved to a run folder, loaded from one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from model_store import Calibration, Pattern
from model_store.atomic_file import write_atomically
from model_store.label_sets import LabelSets
from training.config import TaskConfig
from training.config_paths import absolute, from_here
from training.errors import RunError
from training.learning.batches import Collator, RawInputs
from training.learning.run_folder import (
    ADAPTER,
    HEAD,
    NO_COVERAGE,
    TOWERS,
    description_file,
    read_json,
    write_json,
)
from training.model.backbones import load_backbone
from training.model.classifier import MissingModalityClassifier
from training.model.file_names import RUN_DESCRIPTION, WEIGHTS
from training.model.methods import LowRank
from training.model.preprocessing import Preprocessor
from training.model.retriever import make_model
from training.model.towers import Backbone, layer_counts


@dataclass(frozen=True)
class TrainedTask:
    """A trained model with everything that its evaluation and its export need."""

    config: TaskConfig
    labels: tuple[str, ...]
    dataset_fingerprint: str
    training_mix: dict[str, float]  # share of each presence pattern in the training split
    calibration: dict[Pattern, Calibration]
    model: MissingModalityClassifier
    preprocessor: Preprocessor
    label_sets: LabelSets | None = None

    def collator(self) -> Collator:
        """Makes batches of items as the whole model takes them."""
        return Collator(RawInputs(self.preprocessor), self.labels, self.config.problem)


def build(
    config: TaskConfig, classes: int, folder: Path | None = None
) -> tuple[MissingModalityClassifier, Preprocessor]:
    """The untrained model of a configuration, and the preprocessing of its backbone.

    Args:
        folder: the run folder, which holds the towers of an imported task.

    Raises:
        RunError: the towers in `folder` are damaged or do not fit the backbone.
    """
    backbone = load_backbone(config.backbone)
    if config.imported is not None and folder is not None:
        _load_towers(folder / TOWERS, backbone)
    return make_model(backbone, config, classes), Preprocessor(config.backbone, backbone.config)


def _load_towers(path: Path, backbone: Backbone) -> None:
    try:
        result = backbone.load_state_dict(load_file(path), strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: of other shapes
        reason = str(error).strip().splitlines()[-1].strip()
        raise RunError(f"{path} cannot be read or does not fit the backbone ({reason}); import it again") from error
    if result.unexpected_keys:
        raise RunError(f"{path} does not fit the backbone, which has no {result.unexpected_keys[0]}; import it again")


def save_trained(folder: Path, trained: TrainedTask) -> None:
    """Write the adapter, the head and `task.json`, which describes them.

    A LoRA or DoRA adapter is saved in PEFT's files, so that `PeftModel.from_pretrained` loads it, and the head in
    `head.safetensors` beside them. Other methods have both in `adapter.safetensors`.
    """
    config, model = trained.config, trained.model
    if isinstance(model.adapter, LowRank):
        model.adapter.save(folder, config.backbone)
        write_atomically(folder / HEAD, safetensors.torch.save(model.head.state_dict()))
    else:
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        write_atomically(folder / ADAPTER, safetensors.torch.save(state))
    image_layers, text_layers = layer_counts(model.backbone)
    description = {
        "adapted_layers": {
            "image": list(range(model.image_split, image_layers)),
            "text": list(range(model.text_split, text_layers)),
        },
        "labels": list(trained.labels),
        "dataset_fingerprint": trained.dataset_fingerprint,
        "training_mix": trained.training_mix,
        "calibration": {pattern.value: value.model_dump() for pattern, value in trained.calibration.items()},
        "label_sets": None if trained.label_sets is None else trained.label_sets.model_dump(mode="json"),
        "task_config": absolute(config.model_dump(mode="json")),
    }
    write_json(folder / RUN_DESCRIPTION, description)


def load_trained(folder: Path, backbone: str | None = None) -> TrainedTask:
    """Read a finished run; `backbone` is the new path of its backbone, if that has moved. Raises RunError."""
    description = read_json(description_file(folder))
    try:
        config = TaskConfig.model_validate(from_here({"coverage": NO_COVERAGE} | description["task_config"]))
        labels, fingerprint, mix = (description[name] for name in ("labels", "dataset_fingerprint", "training_mix"))
        calibration = {Pattern(name): Calibration(**values) for name, values in description["calibration"].items()}
        sets = description.get("label_sets")  # older runs have none
        label_sets = None if sets is None else LabelSets.model_validate(sets)
        if backbone is not None:
            config = config.model_copy(update={"backbone": backbone})
        model, preprocessor = build(config, len(labels), folder)
        _load_weights(folder, model)
    except (KeyError, OSError, RuntimeError, ValueError, SafetensorError) as error:  # RuntimeError: of other shapes
        raise RunError(
            f"{folder} was written by another version or is damaged ({error}); train it again with --overwrite"
        ) from error
    model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return TrainedTask(config, tuple(labels), fingerprint, mix, calibration, model, preprocessor, label_sets)


def _load_weights(folder: Path, model: MissingModalityClassifier) -> None:
    if isinstance(model.adapter, LowRank) and (folder / WEIGHTS).is_file():  # older runs have all in ADAPTER
        model.adapter.load(folder)
        model.head.load_state_dict(load_file(folder / HEAD))
    else:
        model.load_state_dict(load_file(folder / ADAPTER))
