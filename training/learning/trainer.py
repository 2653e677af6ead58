"""transformers' Trainer, set up for adapters: weight decay, checkpoints, what is logged."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import EvalPrediction, Trainer, TrainingArguments

from model_store import Problem
from training.config import TaskConfig
from training.errors import RunError
from training.learning.evaluation import score
from training.learning.runs import read_json

_CHECKPOINT_FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")
_NEVER_DECAYED = ("magnitude", "gate", "bias")  # parts of names


class AdapterTrainer(Trainer):  # type: ignore[misc]  # transformers has no types
    """Trainer whose weight decay follows the method, and whose log says how long training has taken so far."""

    def __init__(self, config: TaskConfig, **options: Any) -> None:  # noqa: ANN401
        self._decays_everything = config.method == "mora" and config.mora.parametrization == "official"
        self._adapter_rate = config.train.adapter_rate
        self._session_started = time.monotonic()
        self._earlier_seconds: float | None = None  # of the sessions before this one
        super().__init__(**options)

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Official MoRA decays everything it trains; other methods spare magnitudes, gates, norms and biases."""
        if self._decays_everything:
            return [name for name, value in model.named_parameters() if value.requires_grad]
        names: list[str] = super().get_decay_parameter_names(model)
        return [name for name in names if not any(part in name for part in _NEVER_DECAYED)]

    def create_optimizer(self, *arguments: Any, **options: Any) -> torch.optim.Optimizer:  # noqa: ANN401
        """The Trainer's own, with groups of their own for what is not the head, at `train.adapter_rate`."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*arguments, **options)
        head = {id(value) for name, value in self.model.named_parameters() if name.startswith("head.")}
        groups = [*optimizer.param_groups]
        optimizer.param_groups.clear()
        for group in groups:
            for ours, rate in ((True, 1.0), (False, self._adapter_rate)):
                chosen = [value for value in group["params"] if (id(value) in head) is ours]
                if chosen:
                    optimizer.add_param_group({**group, "params": chosen, "lr": rate * group["lr"]})
        return optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep the seconds of training beside each entry; they go into the checkpoint and on from there."""
        if self._earlier_seconds is None:
            history = self.state.log_history
            self._earlier_seconds = float(history[-1]["seconds"]) if history else 0.0
        logs["seconds"] = round(self._earlier_seconds + time.monotonic() - self._session_started, 2)
        super().log(logs, start_time)


def is_main_process() -> bool:
    """Whether this process writes and publishes: the only one, or the first that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def training_arguments(config: TaskConfig, folder: Path, metric: str) -> TrainingArguments:
    """The Trainer's settings; the epoch with the best `metric` on validation is kept."""
    train = config.train
    arguments = TrainingArguments(
        output_dir=str(folder.resolve()),  # the trainer finds its best checkpoint by this path
        num_train_epochs=train.epochs,
        per_device_train_batch_size=_share(train.batch_size),
        per_device_eval_batch_size=_share(train.batch_size),
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        adam_beta1=train.betas[0],
        adam_beta2=train.betas[1],
        lr_scheduler_type="cosine",
        warmup_steps=train.warmup_ratio,
        bf16=train.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        seed=train.seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=metric,
        logging_strategy="epoch",
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        ddp_timeout=24 * 3600,  # seconds; the others wait while the first fills the trunk cache
        ddp_backend="gloo" if _processes() > 1 and not torch.cuda.is_available() else None,
    )
    if arguments.parallel_mode.value == "not_distributed":
        arguments._n_gpu = min(arguments.n_gpu, 1)  # a batch of rows cannot be cut in two; torchrun uses more GPUs
    return arguments


def _share(batch_size: int) -> int:
    processes = _processes()
    if batch_size % processes:
        raise RunError(f"train.batch_size is {batch_size}, which {processes} processes cannot share evenly; change it")
    return batch_size // processes


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))  # torchrun's


def validation_scores(prediction: EvalPrediction, problem: Problem) -> dict[str, float]:
    """What the Trainer logs of the validation split."""
    found = score(torch.as_tensor(prediction.predictions), torch.as_tensor(prediction.label_ids), problem)
    return {name: value for name, value in found.items() if value is not None}


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint; one that a kill left incomplete is removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for path in found:
        if all((path / name).is_file() for name in _CHECKPOINT_FILES) and _parses(path / "trainer_state.json"):
            return str(path)
        shutil.rmtree(path)
    return None


def _parses(path: Path) -> bool:
    try:
        read_json(path)
    except RunError:
        return False
    return True
