"""Finished runs, which `mora-train evaluate`, `export` and `publish` open again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from model_store import Problem
from training.config import MissingTables, TaskConfig, override
from training.data.calibration_split import Divided, set_apart
from training.data.mask_files import mask_name
from training.data.missing import Table, draw_tables
from training.data.splits import TaskData, load_data
from training.errors import ConfigError, RunError
from training.learning.baselines import baselines
from training.learning.conformal import coverage_scores
from training.learning.cross_scenario import Grid
from training.learning.encoded_pairs import encode_all_pairs
from training.learning.encoded_split import encode_splits
from training.learning.evaluation import evaluate_splits
from training.learning.item_scores import item_scores, retrieval_item_scores, write_item_scores
from training.learning.retrieval_scores import evaluate_pairs
from training.learning.review_costs import Costs, ReviewPlan, review_plan
from training.learning.run_folder import (
    METRICS,
    MISSING_TABLES,
    clean_up,
    data_change,
    open_run,
    read_json,
    require_finished,
    write_json,
)
from training.learning.runs import TrainedTask, load_trained
from training.report.plots import heat_map

GRID_FILES = ("grid.json", "grid.svg")


def open_finished(
    folder: Path, flags: Sequence[str], backbone: str | None, announce: Callable[[str], None]
) -> tuple[TrainedTask, TaskData]:
    """A finished run and its data. Flags may give new paths of the data, and other settings of export and publishing.

    Raises:
        RunError: the folder holds no finished run, or its data has changed.
        ConfigError: a flag is wrong, or names a field that cannot be changed after training.
    """
    require_finished(folder)
    trained = load_trained(folder, backbone)
    changeable = ("--data.", "--export.", "--publish.")
    others = [flag for flag in flags if flag.startswith("--") and not flag.startswith(changeable)]
    if others:
        raise ConfigError(
            f"{others[0]} cannot be changed after training; only --data.*, --export.* and --publish.* can"
        )
    config = override(trained.config, flags)
    data = load_data(config.model_copy(update={"labels": trained.labels}))
    if not data.has_fingerprint(trained.dataset_fingerprint):
        if not any(flag.startswith("--data.") for flag in flags):
            problem = f"the data of {folder} has changed since it was trained: {data_change(folder, data)}"
            raise RunError(f"{problem}; add --data.test PATH to use it")
        announce(f"this is not the data that {folder} was trained with")
        for note in data.notes:
            announce(note)
    return _published_as(trained, config), data


def reopen(folder: Path, config: TaskConfig, data: TaskData) -> TrainedTask:
    """A finished run. Raises RunError if it is a run of another configuration or of other data."""
    open_run(folder, config, data)
    clean_up(folder)
    return _published_as(load_trained(folder), config)


def _published_as(trained: TrainedTask, config: TaskConfig) -> TrainedTask:
    settings = {"export": config.export, "publish": config.publish}
    return replace(trained, config=trained.config.model_copy(update=settings))


def evaluate_again(folder: Path, trained: TrainedTask, data: TaskData) -> tuple[dict[str, object], bool]:
    """A run's metrics with its scores on this data, and whether they were saved. Scores on other data are not saved."""
    is_own_data, divided = data.has_fingerprint(trained.dataset_fingerprint), divided_again(folder, trained, data)
    data, tables, problem = divided.data, divided.tables, trained.config.problem
    if problem is Problem.RETRIEVAL:
        return _evaluate_pairs_again(folder, trained, data, tables, is_own_data), is_own_data
    encoded = encode_splits(trained.model, data, trained.collator())
    head = trained.model.cpu().head
    scores = evaluate_splits(head, encoded, tables, problem, trained.calibration)
    metrics = read_json(folder / METRICS) | scores | {"baselines": baselines(data, problem)}
    metrics["coverage"] = coverage_scores(trained, encoded["test"])
    if is_own_data:
        write_item_scores(folder, item_scores(trained, data, encoded["test"]))
        write_json(folder / METRICS, metrics)
    return metrics, is_own_data


def _evaluate_pairs_again(
    folder: Path, trained: TrainedTask, data: TaskData, tables: dict[str, Table], is_own_data: bool
) -> dict[str, object]:
    """The metrics of a retrieval task. The baselines are of the frozen backbone, so they need its own data."""
    encoded = encode_all_pairs(trained.model, data, trained.collator())
    head, metrics = trained.model.cpu().head, read_json(folder / METRICS)
    metrics |= evaluate_pairs(head, encoded, tables, trained.config.train.temperature)
    if is_own_data:
        write_item_scores(folder, retrieval_item_scores(trained, data, encoded["test"]))
        write_json(folder / METRICS, metrics)
    else:
        del metrics["baselines"]
    return metrics


def plan_reviews(folder: Path, trained: TrainedTask, data: TaskData, costs: Costs) -> ReviewPlan:
    """The coverage to ask for at these costs. Raises RunError for a run without label sets."""
    if trained.config.problem is Problem.RETRIEVAL:
        raise RunError(f"{folder} is a retrieval task, which has no label sets to review; leave out --error-cost")
    if trained.label_sets is None:
        cure = "train it again with coverage.share above 0 and a validation split of at least 100 items"
        raise RunError(f"{folder} has no label sets, so no coverage can be chosen; {cure}")
    divided = divided_again(folder, trained, data)
    encoded = encode_splits(trained.model, divided.data, trained.collator())
    return review_plan(trained, encoded, divided.tables, costs)


def divided_again(folder: Path, trained: TrainedTask, data: TaskData) -> Divided:
    """The data without its calibration items, with the tables that the run saved if it is the run's own data."""
    is_own_data = data.has_fingerprint(trained.dataset_fingerprint)
    config = _with_saved_tables(trained.config, folder) if is_own_data else trained.config
    return set_apart(config, data, draw_tables(config, data))


def _with_saved_tables(config: TaskConfig, folder: Path) -> TaskConfig:
    """The configuration with the tables that the run saved, which an earlier version may have drawn in another way."""
    settings = dict(config.missing)
    for split, drawn in settings.items():
        saved = folder / MISSING_TABLES / mask_name(config.task, split, drawn)
        if drawn.table is None and saved.is_file():
            settings[split] = drawn.model_copy(update={"table": str(saved)})
    return config.model_copy(update={"missing": MissingTables(**settings)})


def write_grid(folder: Path, grid: Grid) -> None:
    """Write GRID_FILES."""
    folder.mkdir(parents=True, exist_ok=True)
    table, picture = (folder / name for name in GRID_FILES)
    write_json(table, asdict(grid))
    picture.write_text(heat_map(grid), encoding="utf-8")
