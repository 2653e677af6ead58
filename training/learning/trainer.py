"""Training with transformers' Trainer: learning rates, weight decay, seconds in its log, and an end if it diverges.

The Trainer takes a second to import, so this module is imported only for training.
"""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.nn.utils import get_total_norm
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from model_store import Problem
from training.config import TaskConfig
from training.data.copies import distinct_targets
from training.data.missing import Table
from training.data.splits import TaskData
from training.errors import DivergedError
from training.learning.batches import Collator, MaskedExamples
from training.learning.checkpoints import whole_checkpoint
from training.learning.epoch_lines import EpochLines
from training.learning.evaluation import chance_log_loss, score, selection_metric, selection_score
from training.learning.retrieval_scores import vector_scores
from training.learning.run_folder import last_checkpoint
from training.model.classifier import MissingModalityClassifier

_DIVERGED = 10  # log losses of a random answer
_NEVER_DECAYED = ("magnitude", "gate", "bias")  # parts of names


class AdapterTrainer(Trainer):  # type: ignore[misc]  # transformers has no types
    """A Trainer with the method's weight decay and learning rates, and with the seconds of training in its log."""

    def __init__(self, config: TaskConfig, **options: Any) -> None:  # noqa: ANN401
        self._decays_everything = config.method == "mora" and config.mora.parametrization == "official"
        self._train_config = config.train
        self._session_started = time.monotonic()
        self._earlier_seconds: float | None = None  # of earlier sessions of this run
        super().__init__(**options)

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Parameters with weight decay: all of official MoRA; of other methods no magnitude, gate, norm or bias."""
        if self._decays_everything:
            return [name for name, value in model.named_parameters() if value.requires_grad]
        names: list[str] = super().get_decay_parameter_names(model)
        return [name for name in names if not any(part in name for part in _NEVER_DECAYED)]

    def create_optimizer(self, *arguments: Any, **options: Any) -> torch.optim.Optimizer:  # noqa: ANN401
        """The Trainer's optimizer, in which the rate of the adapter is the head's times `train.adapter_rate`."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*arguments, **options)
        head = {id(value) for name, value in self.model.named_parameters() if name.startswith("head.")}
        groups = [*optimizer.param_groups]
        optimizer.param_groups.clear()
        for group in groups:
            for is_head, rate in ((True, 1.0), (False, self._train_config.adapter_rate)):
                chosen = [value for value in group["params"] if (id(value) in head) is is_head]
                if chosen:
                    optimizer.add_param_group({**group, "params": chosen, "lr": rate * group["lr"]})
        return optimizer

    def training_step(self, model: torch.nn.Module, *arguments: Any, **options: Any) -> torch.Tensor:  # noqa: ANN401
        """Loss and gradients of a batch. Raises DivergedError, before the optimizer's step, if one is not finite."""
        loss: torch.Tensor = super().training_step(model, *arguments, **options)
        gradients = [value.grad for value in model.parameters() if value.grad is not None]
        for name, value in (("loss", loss), ("norm of the gradients", get_total_norm(gradients))):
            if not bool(value.isfinite()):
                raise self._diverged(self.state.global_step + 1, f"the {name} is {float(value)}")
        return loss

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:  # noqa: ANN401
        """The scores of the validation split. Raises DivergedError, before a checkpoint is saved, without them."""
        scores: dict[str, float] = super().evaluate(*arguments, **options)
        if f"eval_{self.args.metric_for_best_model}" not in scores:
            raise self._diverged(self.state.global_step, "the logits of the validation split are not finite")
        return scores

    def _init_training_state(self, max_steps: int, epoch_steps: int, epochs: int, *rest: Any) -> tuple[int, int]:  # noqa: ANN401
        """The trained epochs, and steps of the next one: all epochs, if training had ended before the checkpoint.

        The best checkpoint is found beside the one that training goes on from: the run may have been moved.
        """
        trained: tuple[int, int] = super()._init_training_state(max_steps, epoch_steps, epochs, *rest)
        if self.state.best_global_step:
            best = Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}"
            self.state.best_model_checkpoint = str(best)
        return (epochs, 0) if self.control.should_training_stop else trained

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        """Write a checkpoint. Raises RunError, and leaves no part of it, if the disk is full."""
        with whole_checkpoint(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"):
            super()._save_checkpoint(*arguments, **options)

    def check_kept_epoch(self, chance: float) -> None:
        """Raise DivergedError if the kept epoch's validation log loss is many times that of a random answer."""
        kept = _kept(self.state.log_history)
        loss = float(kept.get("eval_log_loss", 0.0))  # the log of an earlier version has none
        if loss > _DIVERGED * chance:
            problem = f"the validation log loss is {loss:.3g}, and that of a random answer {chance:.3g}"
            raise self._diverged(int(kept["step"]), problem, has_good_checkpoint=False)

    def _diverged(self, step: int, problem: str, has_good_checkpoint: bool = True) -> DivergedError:
        epoch = math.ceil(step * self.args.num_train_epochs / self.state.max_steps)
        cures = f"lower train.learning_rate (it is {self._train_config.learning_rate:g})"
        if self._train_config.precision != "fp32":
            cures += ", set train.precision to fp32"
        kept = last_checkpoint(Path(self.args.output_dir)) if has_good_checkpoint else None
        return DivergedError(
            f"training diverged in epoch {epoch}, step {step} of {self.state.max_steps}: {problem}; {cures}, or check "
            "the backbone and the pictures (`mora-train data`), and give another --output or --overwrite"
            + (f" (the last good checkpoint stays in {kept})" if kept else "")
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the seconds of training to each entry, including earlier sessions, whose log is in the checkpoint."""
        if self._earlier_seconds is None:
            history = self.state.log_history
            self._earlier_seconds = float(history[-1]["seconds"]) if history else 0.0
        logs["seconds"] = round(self._earlier_seconds + time.monotonic() - self._session_started, 2)
        super().log(logs, start_time)


def train(
    model: MissingModalityClassifier,
    collator: Collator,
    config: TaskConfig,
    data: TaskData,
    tables: dict[str, Table],
    arguments: TrainingArguments,
    checkpoint: str | None,
) -> list[dict[str, float]]:
    """Train adapter and head, from a checkpoint if one is given, and keep the best epoch.

    Args:
        tables: the missing tables of `train` and `validation`.

    Returns:
        The Trainer's log, without its summary, which leaves out the sessions before the checkpoint.
    """
    selection, patience = selection_metric(config, data.labels, data.validation), config.train.patience
    trainer = AdapterTrainer(
        config,
        model=model,
        args=arguments,
        data_collator=collator,
        train_dataset=MaskedExamples(data.train, tables["train"]),
        eval_dataset=MaskedExamples(data.validation, tables["validation"]),
        compute_metrics=lambda prediction: _validation_scores(prediction, config, selection),
    )
    if patience is not None:
        trainer.add_callback(EarlyStoppingCallback(math.ceil(patience * arguments.num_train_epochs)))
    trainer.remove_callback(PrinterCallback)
    lines = EpochLines(selection, Console())
    trainer.add_callback(lines)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        lines.on_train_end()  # also after an error, whose message comes below the last line
    trainer.check_kept_epoch(
        chance_log_loss(config.problem, len(data.labels) or len(distinct_targets(data.validation.items)))
    )
    lines.print_kept(trainer.state)
    return [entry for entry in trainer.state.log_history if "train_runtime" not in entry]


class _StopAfter(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Ends training after a number of epochs, on the learning rates of more."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def on_epoch_end(self, _: Any, state: TrainerState, control: TrainerControl, **__: Any) -> None:  # noqa: ANN401
        control.should_training_stop = round(state.epoch) >= self._epochs


def train_epochs(
    model: MissingModalityClassifier,
    collator: Collator,
    config: TaskConfig,
    data: TaskData,
    table: Table,
    arguments: TrainingArguments,
    epochs: int,
) -> None:
    """Train for the first epochs of the schedule, without validation, checkpoints and output.

    Args:
        table: the missing table of `train`.
    """
    arguments = copy.copy(arguments)
    arguments.eval_strategy, arguments.save_strategy, arguments.logging_strategy = "no", "no", "no"
    arguments.load_best_model_at_end = False
    dataset = MaskedExamples(data.train, table)
    trainer = AdapterTrainer(config, model=model, args=arguments, data_collator=collator, train_dataset=dataset)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_StopAfter(epochs))
    trainer.train()


def kept_epoch(history: list[dict[str, float]]) -> int:
    """The epoch that a training kept, from its log."""
    return round(_kept(history)["epoch"])


def _kept(history: list[dict[str, float]]) -> dict[str, float]:
    return max((entry for entry in history if "eval_selection" in entry), key=lambda entry: entry["eval_selection"])


def _validation_scores(prediction: EvalPrediction, config: TaskConfig, selection: str) -> dict[str, float]:
    """The scores of the validation split for the Trainer's log, with `selection`, which chooses the epoch."""
    answers, targets = torch.as_tensor(prediction.predictions), torch.as_tensor(prediction.label_ids)
    if config.problem is Problem.RETRIEVAL:
        scores = vector_scores(answers, targets, config.train.temperature)
    else:
        scores = score(answers, targets, config.problem)
    scores["selection"] = selection_score(scores, selection)
    return {name: value for name, value in scores.items() if value is not None}
