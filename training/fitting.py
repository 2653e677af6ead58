"""Train a task with transformers' Trainer; a killed run goes on where its last checkpoint stands."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import EvalPrediction, Trainer, TrainingArguments, set_seed

from model_store import Problem
from training.batches import Collator, MaskedItems
from training.config import TaskConfig
from training.data import Split, TaskData
from training.errors import RunError
from training.evaluation import encode, evaluate, score
from training.missing import Table, pattern_shares, table_for
from training.runs import METRICS, TrainedTask, build, read_json, save_trained, write_json

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
_CHECKPOINT_FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")


class _AdapterTrainer(Trainer):  # type: ignore[misc]  # transformers has no types
    """Trainer whose weight decay follows the parametrization."""

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Official MoRA decays everything it trains; identity spares magnitudes, gates and biases."""
        names = [name for name, value in model.named_parameters() if value.requires_grad]
        if self.identity:
            return [name for name in names if not name.endswith(("magnitude", "gate", "bias"))]
        return names


def fit(config: TaskConfig, data: TaskData, folder: Path) -> TrainedTask:
    """Train, evaluate, and write adapter, tables and metrics into `folder`."""
    claim(folder, config, data)
    started = time.monotonic()
    set_seed(config.train.seed)
    model, preprocessor = build(config, len(data.labels))
    tables = draw_tables(config, data, folder / "missing_tables")
    collator = Collator(preprocessor, data.labels, config.problem)
    trainer = _AdapterTrainer(
        model=model,
        args=_arguments(config, folder / CHECKPOINTS),
        data_collator=collator,
        train_dataset=MaskedItems(data.train, tables["train"]),
        eval_dataset=MaskedItems(data.validation, tables["validation"]),
        compute_metrics=lambda prediction: _validation_scores(prediction, config.problem),
    )
    trainer.identity = config.mora.parametrization == "identity"
    trainer.train(resume_from_checkpoint=last_checkpoint(folder / CHECKPOINTS))
    mix = {str(pattern): share for pattern, share in pattern_shares(tables["train"]).items()}
    trained = TrainedTask(config, data.labels, data.fingerprint, mix, model, preprocessor)
    save_trained(folder, trained)
    trained_seconds = time.monotonic() - started
    metrics: dict[str, Any] = evaluate_splits(trained, data, tables)
    metrics["trainable_parameters"] = model.trainable_parameters()
    metrics["seconds"] = {"train": round(trained_seconds, 1), "total": round(time.monotonic() - started, 1)}
    write_json(folder / METRICS, metrics)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return trained


def draw_tables(config: TaskConfig, data: TaskData, folder: Path | None = None) -> dict[str, Table]:
    """The missing table of each split, saved in `folder` if one is given."""
    return {
        name: table_for(split, config.task, getattr(config.missing, name), folder)
        for name, split in data.splits().items()
    }


def evaluate_splits(trained: TrainedTask, data: TaskData, tables: dict[str, Table]) -> dict[str, Any]:
    """Scores of validation and test, overall and per presence pattern."""
    collator = Collator(trained.preprocessor, trained.labels, trained.config.problem)

    def scores(split: Split) -> dict[str, Any]:
        features = encode(trained.model, split, collator)
        return evaluate(trained.model, split, tables[split.name], features, collator)

    return {"validation": scores(data.validation), "test": scores(data.test)}


def claim(folder: Path, config: TaskConfig, data: TaskData) -> None:
    """Make `folder` the run of this configuration on this data. Raises RunError when it holds another one."""
    wanted = {"config": config.model_dump(mode="json"), "labels": [*data.labels], "data": data.fingerprint}
    if (folder / CONFIG).exists():
        held = read_json(folder / CONFIG)
        changed = [name for name, value in wanted.items() if held.get(name) != value]
        if changed:
            cure = "choose another --output, or add --overwrite"
            raise RunError(f"{folder} holds a run with other {' and '.join(changed)}; {cure}")
    elif folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} holds something else than a run; choose another --output")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, wanted)


def discard(folder: Path) -> None:
    """Remove a run. Raises RunError when the folder is not one, so that nothing else is ever deleted."""
    if not folder.exists():
        return
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder} is not a run of mora-train, so --overwrite leaves it alone; choose another --output")
    shutil.rmtree(folder)


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


def _validation_scores(prediction: EvalPrediction, problem: Problem) -> dict[str, float]:
    found = score(torch.as_tensor(prediction.predictions), torch.as_tensor(prediction.label_ids), problem)
    return {name: value for name, value in found.items() if value is not None}


def _arguments(config: TaskConfig, folder: Path) -> TrainingArguments:
    train = config.train
    return TrainingArguments(
        output_dir=str(folder.resolve()),  # the trainer finds its best checkpoint by this path
        num_train_epochs=train.epochs,
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=train.batch_size,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        adam_beta1=train.betas[0],
        adam_beta2=train.betas[1],
        lr_scheduler_type="cosine",
        warmup_steps=train.warmup_ratio,
        seed=train.seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1" if config.problem is Problem.MULTI_LABEL else "accuracy",
        logging_strategy="epoch",
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
    )
