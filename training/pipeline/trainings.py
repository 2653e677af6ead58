"""Trainings of one task whose configurations differ. A finished one is not repeated when a killed run goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from torch import Tensor
from transformers import TrainingArguments

from model_store.atomic_file import write_atomically
from training.config import TaskConfig
from training.data.missing import Table
from training.data.splits import TaskData
from training.learning import run_folder
from training.learning.batches import Collator
from training.learning.candidate import Candidate, adapted, calibratable
from training.learning.processes import is_main_process, process_count
from training.learning.runs import build
from training.learning.trainer import train
from training.learning.training_setup import collator_for, main_process_first, set_seed, training_arguments
from training.model.classifier import MissingModalityClassifier


@dataclass(frozen=True)
class Trained:
    """A trained candidate, and what its cross-fitting needs."""

    candidate: Candidate
    collator: Collator
    arguments: TrainingArguments
    history: list[dict[str, float]]  # the Trainer's log


@dataclass(frozen=True)
class Trainings:
    """The parts that the trainings of a task have in common.

    `data` is without the items that are set apart for calibration, `whole` with them. `start` is the head at which
    every training starts. `class_weights` (C,) are those of the loss.
    """

    data: TaskData
    whole: TaskData
    tables: dict[str, Table]
    folder: Path
    cache_folder: Path
    start: Mapping[str, Tensor]
    class_weights: Tensor | None
    announce: Callable[[str], None]

    def build_and_train(self, config: TaskConfig, name: str) -> Trained:
        """Train the model of another configuration. `name` tells its checkpoints from the others'."""
        checkpoints = self.folder / run_folder.CHECKPOINTS / name.replace(" ", "-")
        arguments = training_arguments(config, len(self.data.train.items), checkpoints)
        set_seed(config.train.seed)
        model, preprocessor = build(config, len(self.data.labels), self.folder)
        model.to(arguments.device)
        with main_process_first(arguments if process_count() > 1 else None):
            checkpoint = run_folder.last_checkpoint(checkpoints)
            collator = collator_for(model, preprocessor, config, self.whole, self.cache_folder, self.announce)
        model.objective.class_weights = self.class_weights
        model.head.load_state_dict(self.start)
        return self.train(config, model, collator, arguments, checkpoint)

    def train(
        self,
        config: TaskConfig,
        model: MissingModalityClassifier,
        collator: Collator,
        arguments: TrainingArguments,
        checkpoint: str | None,
    ) -> Trained:
        """Train a model, from a checkpoint if one is given, or read what an earlier command trained."""
        folder = Path(arguments.output_dir)
        weights, log = folder / run_folder.ADAPTER, folder / run_folder.HISTORY
        if log.is_file():
            model.load_state_dict(safetensors.torch.load_file(weights))
            history = run_folder.read_history(folder)
        else:
            history = train(model, collator, config, self.data, self.tables, arguments, checkpoint)
            if is_main_process():
                state = {name: value.contiguous() for name, value in model.state_dict().items()}
                write_atomically(weights, safetensors.torch.save(state))
                run_folder.write_json(log, history)  # last: it marks the training as finished
        candidate = adapted(config, model, self.data, self.tables, collator)
        return Trained(calibratable(candidate, self.class_weights), collator, arguments, history)
