"""`mora-train fit --folds`: a fit for each fold, which scores the configuration on every row. No model is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from training.config import TaskConfig
from training.data.folds import fold_data
from training.data.splits import TaskData
from training.errors import ConfigError, RunError
from training.learning import run_folder
from training.pipeline.kept_runs import View, metrics_of, test_scores_of

FOLDS = "folds.json"


def cross_validate(
    config: TaskConfig,
    data: TaskData,
    folds: int,
    folder: Path,
    announce: Callable[[str], None],
    overwrite: bool = False,
) -> dict[str, View]:
    """The test scores of each fold, overall and per presence pattern; also in folds.json. Finished folds are kept.

    Raises:
        ConfigError: the configuration names a missing table, which belongs to one split.
        DataError: the rows cannot be divided so.
        RunError: `folder` holds something else.
    """
    for name in ("train", "validation", "test"):
        if getattr(config.missing, name).table is not None:
            raise ConfigError(f"--folds draws splits, for which missing.{name}.table has no entries; remove it")
    runs, notes = fold_data(config, data, folds)
    names = [f"fold-{number}-of-{folds}" for number in range(1, folds + 1)]
    _open(folder, names, overwrite)
    for note in notes:
        announce(note)
    metrics = [
        metrics_of(config, run, folder / name, announce, folder / run_folder.TRUNK_CACHE, name)
        for name, run in zip(names, runs, strict=True)
    ]
    shutil.rmtree(folder / run_folder.TRUNK_CACHE, ignore_errors=True)
    scores = test_scores_of(metrics)
    run_folder.write_json(folder / FOLDS, {"task": config.task, "folds": folds, "test": scores})
    return scores


def _open(folder: Path, names: list[str], overwrite: bool) -> None:
    if (folder / run_folder.CONFIG).exists():
        raise RunError(f"{folder} holds a run of `mora-train fit`; choose another --output for the folds")
    if overwrite:
        for name in names:
            run_folder.discard(folder / name)
