"""One item for many tasks: `POST /classify/batch`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks.load import MeasurementError
from benchmarks.mix import Item
from benchmarks.servers import post


def task_names(count: int) -> list[str]:
    """The tasks that benchmarks.models publishes."""
    return [f"task-{number}" for number in range(1, count + 1)]


def batch_bodies(items: Sequence[Item], tasks: int) -> list[bytes]:
    """One body for each item, with so many tasks."""
    return [json.dumps({"inputs": [item.fields], "tasks": task_names(tasks)}).encode() for item in items]


def check_fan_out(url: str, item: Item, tasks: int) -> None:
    """Raise MeasurementError unless every task answers with labels: an answer with status 200 may contain problems."""
    (body,) = batch_bodies([item], tasks)
    results = post(url, body)["results"]
    if len(results) != 1 or len(results[0]) != tasks or any("labels" not in cell for cell in results[0]):
        raise MeasurementError(f"{url} answered {json.dumps(results)[:300]} to one item for {tasks} tasks")
