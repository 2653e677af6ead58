"""Runs that are trained once: a command that is given again reads their metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from training.config import TaskConfig
from training.data.splits import TaskData
from training.learning.processes import is_main_process
from training.learning.run_folder import METRICS, is_finished, open_run, read_json, write_json
from training.pipeline.fit import fit

View = dict[str, list[float | None]]  # a score of each run, by metric


def metrics_of(
    config: TaskConfig, data: TaskData, folder: Path, announce: Callable[[str], None], trunk_cache: Path, name: str
) -> dict[str, Any]:
    """The metrics of a run in `folder`, which is trained unless it is finished. Raises RunError for another run.

    Damaged items are not scored: it would take longer than many a training.

    Args:
        trunk_cache: a folder for the frozen layers' outputs, which several runs share.
        name: announced before the run is trained.
    """
    if is_finished(folder):
        open_run(folder, config, data)  # raises RunError if its configuration or its data is another one
    else:
        announce(name)
        fit(config, data, folder, announce, trunk_cache, tries_damage=False)
    return read_json(folder / METRICS)


def yardstick_metrics_of(
    config: TaskConfig,
    data: TaskData,
    folder: Path,
    announce: Callable[[str], None],
    measure: Callable[[], dict[str, Any]],
    name: str,
) -> dict[str, Any]:
    """The metrics of a yardstick in `folder`, which holds no model, or those that `measure` returns.

    Under torchrun, every process measures alike, and the main process writes. Raises RunError for another run.
    """
    path = folder / METRICS
    if is_main_process():
        open_run(folder, config, data)
    if path.is_file():
        return read_json(path)
    announce(name)
    metrics = measure()
    if is_main_process():
        write_json(path, metrics)
    return metrics


def test_scores_of(runs: Sequence[dict[str, Any]]) -> dict[str, View]:
    """The test scores of several runs by view, from their metrics. None where a run has no such score.

    All runs have the same views. Runs of earlier versions lack some scores of a view without items.
    """
    tests = [run["test"] for run in runs]
    return {
        view: {
            metric: [test[view].get(metric) for test in tests]
            for metric in dict.fromkeys(metric for test in tests for metric in test[view])
        }
        for view in tests[0]
    }
