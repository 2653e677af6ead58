"""`mora-train fit` and `import`: train or import a model, then calibrate, evaluate, report and save.

A killed `fit` resumes at its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch

from model_store import Problem
from model_store.atomic_file import write_atomically
from model_store.label_sets import LabelSets
from training.config import TaskConfig
from training.data.calibration_split import LEAST_ITEMS, Divided, different_items, set_apart
from training.data.missing import Table, draw_tables, pattern_shares
from training.data.splits import TaskData
from training.learning import run_folder
from training.learning.baselines import baselines
from training.learning.batches import Collator, RawInputs
from training.learning.calibration import FEW_ITEMS
from training.learning.candidate import Candidate, Choice, adapted, calibratable, choose, probed
from training.learning.class_coverage import calibration_counts, class_warnings
from training.learning.class_weights import balanced_weights
from training.learning.conformal import coverage_scores, label_sets_of
from training.learning.damaged_inputs import damaged_scores
from training.learning.encoded_split import SCORED
from training.learning.evaluation import evaluate_splits, headline_metric
from training.learning.item_scores import item_scores, write_item_scores
from training.learning.processes import is_main_process, process_count
from training.learning.runs import TrainedTask, build, save_trained
from training.learning.training_setup import (
    collator_for,
    main_process_first,
    set_seed,
    training_arguments,
    use_deterministic_kernels,
    wait_for_all_processes,
)
from training.model.preprocessing import Preprocessor
from training.pipeline.auto import choose_adapter, is_auto, written
from training.report.html_report import report_html
from training.report.report_data import report_data

if TYPE_CHECKING:
    from training.model.import_plan import ImportPlan  # imports PEFT, which takes a second


def fit(
    config: TaskConfig,
    data: TaskData,
    folder: Path,
    announce: Callable[[str], None] = print,
    cache_folder: Path | None = None,
    overwrite: bool = False,
    *,
    tries_damage: bool = True,
) -> TrainedTask:
    """Train a task and write adapter, tables, metrics and report into `folder`.

    Args:
        announce: called with notes for the user, such as the disk space that is needed.
        cache_folder: a folder for the frozen layers' outputs, which several runs may share; None: a part of `folder`
            until the run is finished.
        overwrite: discard the run in `folder`.
        tries_damage: score damaged test items, too, each of which is encoded sixteen times.
    """
    if config.problem is Problem.RETRIEVAL:
        from training.pipeline.fit_retrieval import fit_retrieval

        return fit_retrieval(config, data, folder, announce, cache_folder, overwrite)
    started = time.monotonic()
    checkpoints = folder / run_folder.CHECKPOINTS
    arguments = training_arguments(config, len(data.train.items), checkpoints) if process_count() > 1 else None
    with main_process_first(arguments):
        if overwrite and is_main_process():
            run_folder.discard(folder)
        run_folder.open_run(folder, config, data)
        checkpoint = run_folder.last_checkpoint(checkpoints)
        tables = draw_tables(config, data, folder / run_folder.MISSING_TABLES if is_main_process() else None)
    whole, divided = data, set_apart(config, data, tables)
    data, tables = divided.data, divided.tables
    auto_metric = headline_metric(config.problem, data.labels, data.validation) if is_auto(config) else None
    config = written(config)
    set_seed(config.train.seed)
    use_deterministic_kernels()
    model, preprocessor = build(config, len(data.labels), folder)
    model.to(arguments.device if arguments else "cuda" if torch.cuda.is_available() else "cpu")
    first_tail_layers = model.image_split, model.text_split
    if config.method == "head":
        model.split_late()
    cache_folder = cache_folder or folder / run_folder.TRUNK_CACHE
    with main_process_first(arguments):
        collator = collator_for(model, preprocessor, config, whole, cache_folder, announce)
    weights = None
    if config.train.class_weights == "balanced":
        weights = balanced_weights(collator.targets(data.train.items), config.problem, len(data.labels))
        model.objective.class_weights = weights
    probe = None
    if config.train.probe:
        probe = probed(config, data, tables, folder, collator, (model.image_split, model.text_split), weights)
        model.head.load_state_dict(probe.model.head.state_dict())
        probe = calibratable(probe, weights)
    auto = None
    if probe is not None and probe.is_perfect:
        history, chosen, choice = [], probe, Choice(probe)
    else:
        from training.learning.cross_fitting import cross_fitted
        from training.pipeline.trainings import Trainings

        start = {name: value.clone() for name, value in model.head.state_dict().items()}
        trainings = Trainings(data, whole, tables, folder, cache_folder, start, weights, announce)
        arguments = arguments or training_arguments(config, len(data.train.items), checkpoints)
        best = trainings.train(config, model, collator, arguments, checkpoint)
        if auto_metric is not None:
            best, auto = choose_adapter(best, trainings.build_and_train, tables["validation"], auto_metric, announce)
        chosen, history, choice = best.candidate, best.history, None
        if probe is not None:
            choice = choose(probe, chosen, tables["validation"])
            if choice.best is chosen and weights is None:
                chosen = cross_fitted(chosen, data, tables, folder, best.collator, best.arguments, history, announce)
            else:
                chosen = choice.best
        if chosen.model is best.candidate.model:
            collator = best.collator
    sets = label_sets_of(chosen, divided, collator)
    if config.method == "head":
        chosen.model.split_at(chosen.model.backbone, *first_tail_layers)
    trained = _trained_task(chosen, preprocessor, whole, tables, sets)
    return _conclude(
        folder, trained, chosen, choice, divided, history, started, announce, auto, tries_damage=tries_damage
    )


def import_model(
    plan: ImportPlan, data: TaskData, folder: Path, announce: Callable[[str], None] = print, overwrite: bool = False
) -> TrainedTask:
    """Write the towers into `folder`, take their head or fit one, calibrate, evaluate, report and save."""
    started, config = time.monotonic(), plan.config
    if overwrite:
        run_folder.discard(folder)
    run_folder.open_run(folder, config, data)
    write_atomically(folder / run_folder.TOWERS, safetensors.torch.save(plan.towers))
    if plan.head is None:  # `fit` reads these towers and trains the head alone
        return fit(config, data, folder, announce)
    tables = draw_tables(config, data, folder / run_folder.MISSING_TABLES)
    divided = set_apart(config, data, tables)
    model, preprocessor = build(config, len(data.labels), folder)
    model.load_state_dict(plan.head)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    collator = Collator(RawInputs(preprocessor), data.labels, config.problem)
    imported = adapted(config, model, divided.data, divided.tables, collator)
    sets = label_sets_of(imported, divided, collator)
    trained = _trained_task(imported, preprocessor, data, tables, sets)
    return _conclude(folder, trained, imported, None, divided, [], started, announce, None)


def _conclude(
    folder: Path,
    trained: TrainedTask,
    chosen: Candidate,
    choice: Choice | None,
    divided: Divided,
    history: list[dict[str, float]],
    started: float,
    announce: Callable[[str], None],
    auto: dict[str, Any] | None,
    *,
    tries_damage: bool = True,
) -> TrainedTask:
    """Evaluate, report and save a calibrated model.

    Args:
        choice: the comparison of the model with the linear probe.
        history: the Trainer's log, or empty.
        auto: the comparison of several adapters.
    """
    data, tables = divided.data, divided.tables
    metrics: dict[str, Any] = _scores(chosen, tables)
    coverage = metrics["coverage"] = coverage_scores(trained, chosen.encoded["test"])
    warnings = class_warnings(coverage, calibration_counts(divided), trained.config.coverage)
    metrics["coverage_warnings"] = list(warnings)
    metrics["baselines"] = baselines(data, trained.config.problem)
    metrics["calibration_items"] = chosen.calibration_items()
    if choice is not None:
        metrics["probe"] = _scores(choice.probe, tables) | choice.summary()
    metrics["trainable_parameters"] = chosen.model.trainable_parameters()
    seconds = history[-1]["seconds"] if history else 0.0
    if auto is not None:
        metrics["auto"] = auto
        seconds = round(sum(each["seconds"] for each in auto["candidates"]), 2)
    metrics["seconds"] = {"train": seconds, "total": round(time.monotonic() - started, 1)}
    wait_for_all_processes()  # until each has read the best checkpoint, which the main process removes below
    if is_main_process():
        if tries_damage:
            metrics["damaged_inputs"] = _damaged_scores(trained, data)
        notes = _notes(choice, metrics, headline_metric(trained.config.problem, data.labels, data.validation))
        for note in (*notes, *_coverage_notes(trained, data, metrics)):
            announce(note)
        report = report_html(report_data(trained, data, chosen.encoded["test"], tables["test"], metrics, history))
        save_trained(folder, trained)
        write_item_scores(folder, item_scores(trained, data, chosen.encoded["test"]))
        run_folder.write_json(folder / run_folder.HISTORY, history)
        write_atomically(folder / run_folder.REPORT, report.encode())
        run_folder.write_json(folder / run_folder.METRICS, metrics)  # last: it marks the run as finished
        run_folder.clean_up(folder)
    wait_for_all_processes()
    return trained


def _notes(choice: Choice | None, metrics: dict[str, Any], headline: str) -> Iterator[str]:
    """The yardstick and the reason of the result; patterns with too few items to be calibrated."""
    if choice is not None:
        scores = {split: metrics["probe"][split]["overall"][headline] for split in SCORED}
        known = (f"{score:.4f} on {split}" for split, score in scores.items() if score is not None)
        yield f"{headline} of the linear probe on the frozen features: {', '.join(known) or 'undefined'}"
        yield str(choice)
    for pattern, items in metrics["calibration_items"].items():
        if 0 < items < FEW_ITEMS:
            yield f"{pattern}: {items} held-out items are too few to calibrate by themselves; {FEW_ITEMS} are enough"


def _damaged_scores(trained: TrainedTask, data: TaskData) -> dict[str, Any]:
    problem = trained.config.problem
    metric = headline_metric(problem, data.labels, data.validation)
    return damaged_scores(trained.model, data.test, trained.collator(), problem, metric)


def _coverage_notes(trained: TrainedTask, data: TaskData, metrics: dict[str, Any]) -> Iterator[str]:
    """Why there are no label sets; classes whose sets miss what they promise."""
    if trained.label_sets is None and trained.config.coverage.share > 0:
        items = different_items(data.validation)
        need = f"they need a validation split of {LEAST_ITEMS} items, copies counted once"
        yield f"no label sets: {need}, and it has {items}"
    yield from metrics["coverage_warnings"]


def _trained_task(
    chosen: Candidate,
    preprocessor: Preprocessor,
    data: TaskData,
    tables: dict[str, Table],
    sets: LabelSets | None,
) -> TrainedTask:
    return TrainedTask(
        config=chosen.config,
        labels=data.labels,
        dataset_fingerprint=data.fingerprint,
        training_mix=pattern_shares(tables["train"]),
        calibration=chosen.calibration,
        model=chosen.model,
        preprocessor=preprocessor,
        label_sets=sets,
    )


def _scores(candidate: Candidate, tables: dict[str, Table]) -> dict[str, Any]:
    encoded = {name: candidate.encoded[name] for name in SCORED}
    return evaluate_splits(candidate.model.head, encoded, tables, candidate.config.problem, candidate.calibration)
