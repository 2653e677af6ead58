"""Train a task; a killed run goes on where its last checkpoint stands."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import set_seed

from model_store import Pattern
from model_store.atomic_file import atomic_file
from training.config import TaskConfig
from training.data.missing import Table, pattern_shares, table_for
from training.data.splits import TaskData
from training.errors import RunError
from training.fields import differences
from training.learning.batches import Collator, MaskedExamples, RawInputs
from training.learning.calibration import calibrate
from training.learning.evaluation import EncodedSplit, encode, evaluate, selection_metric
from training.learning.runs import HISTORY, METRICS, REPORT, TrainedTask, build, read_json, save_trained, write_json
from training.learning.trainer import (
    AdapterTrainer,
    is_main_process,
    last_checkpoint,
    training_arguments,
    validation_scores,
)
from training.learning.trunk_outputs import open_or_build
from training.model.towers import layer_counts
from training.report.html_report import report_html
from training.report.report_data import report_data

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
TRUNK_CACHE = "trunk_cache"


def fit(
    config: TaskConfig,
    data: TaskData,
    folder: Path,
    announce: Callable[[str], None] = print,
    cache_folder: Path | None = None,
    overwrite: bool = False,
    head: dict[str, Tensor] | None = None,
) -> TrainedTask:
    """Train, calibrate, evaluate, and write adapter, tables, metrics and report into `folder`.

    Args:
        announce: is told what a person should know, such as the disk that is needed.
        cache_folder: where the frozen layers' outputs are kept for several runs; None: in `folder`, while training.
        overwrite: discard the run that `folder` holds.
        head: `head.weight` (C, 2P) and `head.bias` (C,) of an imported task, taken as they are: nothing is trained.
    """
    started = time.monotonic()
    metric = selection_metric(config.problem, data.labels, data.validation)
    arguments = training_arguments(config, folder / CHECKPOINTS, metric)
    with arguments.main_process_first(local=False):
        if overwrite and is_main_process():
            discard(folder)
        open_run(folder, config, data)
        checkpoint = last_checkpoint(folder / CHECKPOINTS)
        tables = draw_tables(config, data, folder / "missing_tables")
    set_seed(config.train.seed)
    model, preprocessor = build(config, len(data.labels), folder)
    model.to(arguments.device)
    served = model.image_split, model.text_split
    if config.imported is not None:  # no layer is trained, so all of them can be computed once
        model.split_at(model.backbone, *layer_counts(model.backbone))
    with arguments.main_process_first(local=False):
        cache = None
        trains_trunk = config.method == "full"  # which then cannot be computed once
        if config.train.cache_trunk and not trains_trunk and head is None:
            cache = open_or_build(model, preprocessor, data, cache_folder or folder / TRUNK_CACHE, announce)
    collator = Collator(cache or RawInputs(preprocessor), data.labels, config.problem)
    trainer = AdapterTrainer(
        config,
        model=model,
        args=arguments,
        data_collator=collator,
        train_dataset=MaskedExamples(data.train, tables["train"]),
        eval_dataset=MaskedExamples(data.validation, tables["validation"]),
        compute_metrics=lambda prediction: validation_scores(prediction, config.problem),
    )
    if head is None:
        trainer.train(resume_from_checkpoint=checkpoint)
    else:
        model.load_state_dict(head)
    encoded = {split.name: encode(model, split, collator) for split in (data.validation, data.test)}
    model.cpu().split_at(model.backbone, *served)
    calibration = calibrate(
        {pattern: encoded["validation"].of_pattern(model.head, pattern, tables["validation"]) for pattern in Pattern},
        config.problem,
    )
    mix = {str(pattern): share for pattern, share in pattern_shares(tables["train"]).items()}
    trained = TrainedTask(config, data.labels, data.fingerprint, mix, calibration, model, preprocessor)
    history = trainer.state.log_history
    if is_main_process():
        save_trained(folder, trained)
        metrics: dict[str, Any] = scores_of(trained, encoded, tables)
        metrics["trainable_parameters"] = model.trainable_parameters()
        train_seconds = history[-1]["seconds"] if history else 0.0
        metrics["seconds"] = {"train": train_seconds, "total": round(time.monotonic() - started, 1)}
        write_json(folder / HISTORY, history)
        report = report_data(trained, data, encoded["test"], tables["test"], metrics, metric, history)
        with atomic_file(folder / REPORT) as file:
            file.write(report_html(report).encode())
        write_json(folder / METRICS, metrics)  # last: it says that the run is finished
        clean_up(folder)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    return trained


def draw_tables(config: TaskConfig, data: TaskData, folder: Path | None = None) -> dict[str, Table]:
    """The missing table of each split, saved in `folder` if one is given."""
    return {
        name: table_for(split, config.task, getattr(config.missing, name), folder)
        for name, split in data.splits().items()
    }


def scores_of(trained: TrainedTask, encoded: dict[str, EncodedSplit], tables: dict[str, Table]) -> dict[str, Any]:
    """Scores of each encoded split, overall and per presence pattern."""
    problem, head = trained.config.problem, trained.model.cpu().head
    return {name: evaluate(head, split, tables[name], problem, trained.calibration) for name, split in encoded.items()}


def evaluate_splits(trained: TrainedTask, data: TaskData, tables: dict[str, Table]) -> dict[str, Any]:
    """Scores of validation and test, overall and per presence pattern."""
    collator = Collator(RawInputs(trained.preprocessor), trained.labels, trained.config.problem)
    encoded = {split.name: encode(trained.model, split, collator) for split in (data.validation, data.test)}
    return scores_of(trained, encoded, tables)


def open_run(folder: Path, config: TaskConfig, data: TaskData) -> None:
    """Make `folder` the run of this configuration on this data. Raises RunError when it holds another one."""
    trained_by = config.model_dump(mode="json", exclude={"export"})  # that can be changed after training
    if config.imported is None:
        del trained_by["imported"]  # runs of before know no such field
    wanted = {"config": trained_by, "labels": [*data.labels], "data": data.fingerprint}
    if (folder / CONFIG).exists():
        held = read_json(folder / CONFIG)
        changed = [name for name, value in wanted.items() if held.get(name) != value]
        if changed:
            fields = ", ".join(differences(held.get("config", {}), trained_by)[:5])
            what = f"other {' and '.join(changed)}{f' ({fields})' if fields else ''}"
            cure = "give what it was begun with, choose another --output, or add --overwrite"
            raise RunError(f"{folder} holds a run with {what}; {cure}")
        return
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} holds something else than a run; choose another --output")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, wanted)


def clean_up(folder: Path) -> None:
    """Remove what a finished run no longer needs."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    shutil.rmtree(folder / TRUNK_CACHE, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove a run. Raises RunError when the folder is not one, so that nothing else is ever deleted."""
    if not folder.exists():
        return
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder} is not a run of mora-train, so --overwrite leaves it alone; choose another --output")
    shutil.rmtree(folder)
