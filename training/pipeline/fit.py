"""`mora-train fit`: train, calibrate, evaluate, report and save. A killed run resumes at its last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from transformers import set_seed

from model_store.atomic_file import write_atomically
from training.config import TaskConfig
from training.data.missing import Table, draw_tables, pattern_shares
from training.data.splits import TaskData
from training.learning.calibration import calibrate
from training.learning.evaluation import EncodedSplit, encode_splits, evaluate_splits, selection_metric
from training.learning.run_folder import (
    CHECKPOINTS,
    HISTORY,
    METRICS,
    MISSING_TABLES,
    REPORT,
    TRUNK_CACHE,
    clean_up,
    discard,
    last_checkpoint,
    open_run,
    write_json,
)
from training.learning.runs import TrainedTask, build, save_trained
from training.learning.trainer import collator_for, is_main_process, train, training_arguments
from training.model.towers import layer_counts
from training.report.html_report import report_html
from training.report.report_data import report_data


def fit(
    config: TaskConfig,
    data: TaskData,
    folder: Path,
    announce: Callable[[str], None] = print,
    cache_folder: Path | None = None,
    overwrite: bool = False,
) -> TrainedTask:
    """Train a task and write adapter, tables, metrics and report into `folder`.

    Args:
        announce: called with what the user should know, such as the disk space that is needed.
        cache_folder: where several runs share the frozen layers' outputs; None: in `folder`, while it trains.
        overwrite: discard the run in `folder`.
    """
    started = time.monotonic()
    metric = selection_metric(config.problem, data.labels, data.validation)
    arguments = training_arguments(config, folder / CHECKPOINTS, metric)
    with arguments.main_process_first(local=False):
        if overwrite and is_main_process():
            discard(folder)
        open_run(folder, config, data)
        checkpoint = last_checkpoint(folder / CHECKPOINTS)
        tables = draw_tables(config, data, folder / MISSING_TABLES)
    set_seed(config.train.seed)
    model, preprocessor = build(config, len(data.labels), folder)
    model.to(arguments.device)
    first_tail_layers = model.image_split, model.text_split
    if config.imported is not None:  # no layer is trained, so the cache can hold the outputs of all
        model.split_at(model.backbone, *layer_counts(model.backbone))
    with arguments.main_process_first(local=False):
        collator = collator_for(model, preprocessor, config, data, cache_folder or folder / TRUNK_CACHE, announce)
    history = train(model, collator, config, data, tables, arguments, checkpoint)
    encoded = encode_splits(model, data, collator)
    model.cpu().split_at(model.backbone, *first_tail_layers)
    mix = pattern_shares(tables["train"])
    trained = TrainedTask(config, data.labels, data.fingerprint, mix, {}, model, preprocessor)
    return conclude(folder, trained, data, tables, encoded, history, started)


def conclude(
    folder: Path,
    trained: TrainedTask,
    data: TaskData,
    tables: dict[str, Table],
    encoded: dict[str, EncodedSplit],
    history: list[dict[str, float]],
    started: float,
) -> TrainedTask:
    """Calibrate, evaluate, report and save a task whose weights are final.

    Args:
        encoded: validation and test.
        history: the Trainer's log; empty when nothing was trained.
        started: when the work on the run began, by the monotonic clock.
    """
    head, problem = trained.model.head, trained.config.problem
    calibration = calibrate(encoded["validation"].by_pattern(head, tables["validation"]), problem)
    trained = replace(trained, calibration=calibration)
    metrics = evaluate_splits(head, encoded, tables, problem, calibration)
    metrics["trainable_parameters"] = trained.model.trainable_parameters()
    metrics["seconds"] = {
        "train": history[-1]["seconds"] if history else 0.0,
        "total": round(time.monotonic() - started, 1),
    }
    if is_main_process():
        report = report_html(report_data(trained, data, encoded["test"], tables["test"], metrics, history))
        save_trained(folder, trained)
        write_json(folder / HISTORY, history)
        write_atomically(folder / REPORT, report.encode())
        write_json(folder / METRICS, metrics)  # last: it marks the run as finished
        clean_up(folder)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    return trained
