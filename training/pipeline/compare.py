"""Compare methods fairly: each method's learning rate is searched alike on validation, then the seeds are run."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue

from training.config import TaskConfig, override
from training.data.splits import TaskData
from training.errors import ConfigError
from training.learning.evaluation import selection_metric
from training.learning.runs import METRICS, is_finished, read_json
from training.pipeline.fit import fit, open_run

OURS = "ours"  # the configuration as it is
_PLAIN: dict[str, JsonValue] = {
    "mora.without": None,
    "train.adapter_rate": 1.0,
    "mora.dropout": 0.1,
    "train.modality_dropout": 0.0,
    "train.distillation": 0.0,
}
_OFFICIAL: dict[str, JsonValue] = {**_PLAIN, "method": "mora", "mora.parametrization": "official"}
METHODS: dict[str, dict[str, JsonValue]] = {
    "head": {**_PLAIN, "method": "head"},
    "bitfit": {**_PLAIN, "method": "bitfit"},
    "lora": {**_PLAIN, "method": "lora"},
    "dora": {**_PLAIN, "method": "dora"},
    "full": {**_PLAIN, "method": "full"},
    "mora-official": _OFFICIAL,
    "mora-identity": {**_PLAIN, "method": "mora", "mora.parametrization": "identity"},
    "mora-without-shared": {**_OFFICIAL, "mora.without": "shared"},
    "mora-without-specific": {**_OFFICIAL, "mora.without": "specific"},
    "mora-without-gram": {**_OFFICIAL, "mora.without": "gram"},
    "ours-head": {"method": "head"},
    OURS: {},
}
_STEP = 10**0.5  # between neighbouring learning rates
_WIDENINGS = 3  # how often the search goes on past an edge
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # two-sided, 1 to 9 degrees of freedom
_FULL = 0.01  # full fine-tuning moves pretrained weights, whose search starts lower by this factor


@dataclass(frozen=True)
class Comparison:
    """Where runs go, and what they share.

    Args:
        search: whether each method's learning rate is searched, or taken from the configuration.
        announce: is told what is about to be run.
    """

    config: TaskConfig
    data: TaskData
    folder: Path
    seeds: Sequence[int]
    search: bool
    announce: Callable[[str], None]

    def run(self, methods: Sequence[str]) -> dict[str, Any]:
        """Every method's learning rate, then its scores with every seed. Finished runs are not run again."""
        unknown = [name for name in methods if name not in METHODS]
        if unknown:
            raise ConfigError(f"--methods: {unknown[0]} is unknown; choose from {', '.join(METHODS)}, or all")
        metric = selection_metric(self.config.problem, self.data.labels, self.data.validation)
        found = {name: self._method(name, metric) for name in methods}
        shutil.rmtree(self._cache, ignore_errors=True)
        return {
            "task": self.config.task,
            "problem": self.config.problem.value,
            "metric": metric,
            "seeds": list(self.seeds),
            "methods": found,
        }

    @property
    def _cache(self) -> Path:
        return self.folder / "trunk_cache"

    def _method(self, name: str, metric: str) -> dict[str, Any]:
        rate = self.config.train.learning_rate
        tried: dict[float, float] = {}
        if self.search:
            centre = rate * _FULL if name == "full" else rate
            for rate in _rates(centre, tried):
                tried[rate] = self._score(name, rate, self.seeds[0], metric)
            rate = _best(tried)
        runs = [self._fit(name, rate, seed) for seed in self.seeds]
        return {
            "learning_rate": rate,
            "searched": {f"{key:.3g}": None if value == -math.inf else value for key, value in sorted(tried.items())},
            "trainable_parameters": runs[0]["trainable_parameters"],
            "seconds": [run["seconds"]["train"] for run in runs],
            "validation": [run["validation"]["overall"][metric] for run in runs],
            "test": {
                view: {name: [run["test"][view][name] for run in runs] for name in runs[0]["test"][view]}
                for view in runs[0]["test"]
            },
        }

    def _score(self, name: str, rate: float, seed: int, metric: str) -> float:
        found = self._fit(name, rate, seed)["validation"]["overall"][metric]
        return -math.inf if found is None else float(found)  # None: training diverged

    def _fit(self, name: str, rate: float, seed: int) -> dict[str, Any]:
        folder = self.folder / "runs" / f"{name}_lr{rate:.3g}_seed{seed}"
        config = variant(self.config, name, rate, seed)
        if is_finished(folder):
            open_run(folder, config, self.data)  # raises where it is the run of another configuration
        else:
            self.announce(f"{name}: learning rate {rate:.3g}, seed {seed}")
            fit(config, self.data, folder, self.announce, self._cache)
        return read_json(folder / METRICS)


def variant(config: TaskConfig, name: str, rate: float, seed: int) -> TaskConfig:
    """The configuration of one run: `seed` draws its missing tables, too, so that runs of a seed are paired."""
    changes: dict[str, JsonValue] = {**METHODS[name], "train.learning_rate": float(f"{rate:.3g}"), "train.seed": seed}
    for split in ("train", "validation", "test"):
        if getattr(config.missing, split).table is None:
            changes[f"missing.{split}.seed"] = seed
    return override(config, [f"--{field}={'null' if value is None else value}" for field, value in changes.items()])


def _rates(centre: float, scores: Mapping[float, float]) -> Iterator[float]:
    """Three neighbouring rates around the centre, then past an edge for as long as the best one is there."""
    rates = [centre / _STEP, centre, centre * _STEP]
    yield from rates
    for _ in range(_WIDENINGS):
        best = _best(scores)
        if best == rates[0]:
            rates.insert(0, rates[0] / _STEP)
            yield rates[0]
        elif best == rates[-1]:
            rates.append(rates[-1] * _STEP)
            yield rates[-1]


def _best(scores: Mapping[float, float]) -> float:
    return max(scores, key=lambda rate: (scores[rate], -rate))


def paired(first: Sequence[float | None], second: Sequence[float | None]) -> tuple[float, float]:
    """Mean of `first - second` over the same seeds, and half its 95 % confidence interval (Student's t).

    NaN where a score is missing, and the interval of a single seed.
    """
    differences = np.subtract(np.array(first, dtype=float), np.array(second, dtype=float))
    if len(differences) < 2:
        return float(differences.mean()), float("nan")
    error = differences.std(ddof=1) / len(differences) ** 0.5
    return float(differences.mean()), float(_T95[min(len(differences) - 1, len(_T95)) - 1] * error)
