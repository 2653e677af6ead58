"""The time of each stage in our service, from its metrics before and after a load."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

_STAGES = "mora_stage_duration_seconds"
_BATCHES = "mora_batch_size"
_SERIES = re.compile(rf'^({_STAGES}|{_BATCHES})_(sum|count){{[^}}]*"([^"]+)"}} (\S+)$', re.MULTILINE)


@contextmanager
def profile(base: str) -> Iterator[dict[str, float]]:
    """Filled on exit: mean milliseconds of each stage that ran, and the mean batch of each encoder."""
    found: dict[str, float] = {}
    before = read(_metrics(base))
    yield found
    after = read(_metrics(base))
    for (metric, name), (total, count) in after.items():
        total_before, count_before = before.get((metric, name), (0.0, 0.0))
        if count > count_before:
            mean = (total - total_before) / (count - count_before)
            found[f"{name}_ms" if metric == _STAGES else f"{name}_batch"] = round(
                mean * (1000 if metric == _STAGES else 1), 3
            )


def read(metrics: str) -> dict[tuple[str, str], tuple[float, float]]:
    """(metric, stage or encoder) to (sum, count), from Prometheus' text format."""
    values = {(metric, name, kind): float(value) for metric, kind, name, value in _SERIES.findall(metrics)}
    keys = {(metric, name) for metric, name, _ in values}
    return {key: (values.get((*key, "sum"), 0.0), values.get((*key, "count"), 0.0)) for key in sorted(keys)}


def _metrics(base: str) -> str:
    with urllib.request.urlopen(f"{base}/metrics", timeout=10) as response:  # noqa: S310
        return str(response.read().decode())
