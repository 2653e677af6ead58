"""`mora-train fit` of a retrieval task: start at the sum of the frozen features, train, evaluate, report and save."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model_store import Calibration, Pattern
from model_store.atomic_file import write_atomically
from training.config import TaskConfig
from training.data.missing import Table, draw_tables, pattern_shares
from training.data.splits import TaskData
from training.errors import ConfigError
from training.learning import run_folder
from training.learning.batches import Collator, PairCollator
from training.learning.encoded_pairs import EncodedPairs, encode_all_pairs
from training.learning.feature_norms import feature_norms
from training.learning.gain import Gain, paired_gain
from training.learning.item_scores import retrieval_item_scores, write_item_scores
from training.learning.processes import process_count
from training.learning.retrieval_scores import evaluate_pairs, frozen_baselines
from training.learning.runs import TrainedTask, build, save_trained
from training.learning.training_setup import collator_for, set_seed, training_arguments, use_deterministic_kernels
from training.model.classifier import MissingModalityClassifier
from training.model.preprocessing import Preprocessor
from training.model.retriever import sum_of_features
from training.report.html_report import report_html
from training.report.retrieval_report_data import retrieval_report_data


@dataclass(frozen=True)
class Retriever:
    """A model that may be published, with its features of the scored splits. `config` builds the model again."""

    config: TaskConfig
    model: MissingModalityClassifier
    encoded: Mapping[str, EncodedPairs]

    def scores(self, tables: Mapping[str, Table]) -> dict[str, Any]:
        """The scores of validation and test, with intervals and the number of targets."""
        return evaluate_pairs(self.model.head, self.encoded, tables, self.config.train.temperature)

    def losses(self, tables: Mapping[str, Table]) -> Tensor:
        """The loss of each validation query, over all targets of the split."""
        pairs = self.encoded["validation"]
        return pairs.ranks(self.model.head, tables["validation"], self.config.train.temperature).loss


def fit_retrieval(
    config: TaskConfig,
    data: TaskData,
    folder: Path,
    announce: Callable[[str], None] = print,
    cache_folder: Path | None = None,
    overwrite: bool = False,
) -> TrainedTask:
    """Train a retrieval task and write adapter, tables, metrics and report into `folder`.

    The head starts at the sum of the frozen features. With `train.probe`, this start is the result unless the trained
    model has a clearly lower loss on the validation split.

    Args:
        announce, cache_folder, overwrite: as for `fit`.

    Raises:
        ConfigError: torchrun started several processes.
    """
    started = time.monotonic()
    if process_count() > 1:
        raise ConfigError("a retrieval task trains in one process, whose batch has the negatives; leave out torchrun")
    if overwrite:
        run_folder.discard(folder)
    run_folder.open_run(folder, config, data)
    checkpoint = run_folder.last_checkpoint(folder / run_folder.CHECKPOINTS)
    tables = draw_tables(config, data, folder / run_folder.MISSING_TABLES)
    set_seed(config.train.seed)
    use_deterministic_kernels()
    model, preprocessor = build(config, 0, folder)
    first_tail_layers = model.image_split, model.text_split
    if config.method == "head":
        model.split_late()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    collator = collator_for(
        model, preprocessor, config, data, cache_folder or folder / run_folder.TRUNK_CACHE, announce
    )
    start = _start(config, data, collator, (model.image_split, model.text_split), folder)
    model.head.load_state_dict(start.model.head.state_dict())
    from training.learning.trainer import train

    arguments = training_arguments(config, len(data.train.items), folder / run_folder.CHECKPOINTS)
    pair_collator = PairCollator(collator.inputs, data.labels, config.problem)
    history = train(model, pair_collator, config, data, tables, arguments, checkpoint)
    chosen = Retriever(config, model, encode_all_pairs(model, data, collator))
    model.split_at(model.backbone, *first_tail_layers)
    model.cpu()
    if config.train.probe:
        gain = paired_gain(start.losses(tables), chosen.losses(tables))
        announce(_choice_note(config.method, gain))
        chosen = chosen if gain.is_clear else start
    metrics = chosen.scores(tables)
    return _conclude(folder, chosen, start, preprocessor, data, tables, metrics, history, started)


def _conclude(
    folder: Path,
    chosen: Retriever,
    start: Retriever,
    preprocessor: Preprocessor,
    data: TaskData,
    tables: dict[str, Table],
    metrics: dict[str, Any],
    history: list[dict[str, float]],
    started: float,
) -> TrainedTask:
    """Report and save a model.

    Args:
        metrics: its scores.
        history: the Trainer's log.
    """
    task = TrainedTask(
        config=chosen.config,
        labels=(),
        dataset_fingerprint=data.fingerprint,
        training_mix=pattern_shares(tables["train"]),
        calibration=dict.fromkeys(Pattern, Calibration()),
        model=chosen.model,
        preprocessor=preprocessor,
    )
    metrics["baselines"] = frozen_baselines(start.encoded, tables)
    metrics["result"] = "sum of features" if chosen is start else chosen.config.method
    metrics["trainable_parameters"] = chosen.model.trainable_parameters()
    metrics["seconds"] = {"train": history[-1]["seconds"], "total": round(time.monotonic() - started, 1)}
    report = report_html(retrieval_report_data(task, data, chosen.encoded["test"], tables["test"], metrics, history))
    save_trained(folder, task)
    write_item_scores(folder, retrieval_item_scores(task, data, chosen.encoded["test"]))
    run_folder.write_json(folder / run_folder.HISTORY, history)
    write_atomically(folder / run_folder.REPORT, report.encode())
    run_folder.write_json(folder / run_folder.METRICS, metrics)  # last: it marks the run as finished
    run_folder.clean_up(folder)
    return task


def _start(
    config: TaskConfig, data: TaskData, collator: Collator, first_tail_layers: tuple[int, int], folder: Path
) -> Retriever:
    """The frozen backbone with the head at the sum of its features.

    Args:
        first_tail_layers: of both towers, for the collator's trunk outputs.
    """
    config = config.model_copy(update={"method": "head"})
    model, _ = build(config, 0, folder)
    own_splits = model.image_split, model.text_split
    model.split_at(model.backbone, *first_tail_layers)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    encoded = encode_all_pairs(model, data, collator)
    image_norm, text_norm = feature_norms(model, data.train, collator)
    model.split_at(model.backbone, *own_splits)
    model.cpu()
    with torch.no_grad():
        model.head.weight.copy_(sum_of_features(model.head.out_features, image_norm, text_norm))
    return Retriever(config, model, encoded)


def _choice_note(method: str, gain: Gain) -> str:
    result = method if gain.is_clear else "the sum of the frozen features"
    return f"{result} is the result: compared with that sum, the loss of {method} on validation is {gain.in_words()}"
