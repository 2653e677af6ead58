"""Runs that are trained once: a command that is given again reads their metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.config import TaskConfig
from training.data.splits import TaskData
from training.learning.run_folder import METRICS, is_finished, open_run, read_json
from training.pipeline.fit import fit


def metrics_of(
    config: TaskConfig, data: TaskData, folder: Path, announce: Callable[[str], None], trunk_cache: Path, name: str
) -> dict[str, Any]:
    """The metrics of a run in `folder`, which is trained unless it is finished. Raises RunError for another run.

    Args:
        trunk_cache: a folder for the frozen layers' outputs, which several runs share.
        name: announced before the run is trained.
    """
    if is_finished(folder):
        open_run(folder, config, data)  # raises RunError if its configuration or its data is another one
    else:
        announce(name)
        fit(config, data, folder, announce, trunk_cache)
    return read_json(folder / METRICS)
