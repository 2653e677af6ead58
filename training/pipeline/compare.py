"""`mora-train compare`: search each method's learning rate, or C, run every seed, collect the scores."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from model_store import Problem
from training.config import TaskConfig, override
from training.data.calibration_split import learning_split
from training.data.splits import TaskData
from training.errors import ConfigError, DivergedError
from training.learning.compared_methods import METHODS, NAMES, YARDSTICKS
from training.learning.evaluation import headline_metric, selection_metric, selection_score
from training.learning.picture_features import PictureFeatures
from training.learning.yardsticks import check_installed, measure
from training.pipeline.kept_runs import metrics_of, test_scores_of, yardstick_metrics_of
from training.pipeline.ladder_search import best, rates_around, search_ladder

_FULL = 0.01  # full fine-tuning moves pretrained weights, so its search starts this much lower
_PAPER_RATE = 1e-2  # METHOD: official configurations


@dataclass(frozen=True)
class Runs:
    """The runs of a comparison in a folder; each is trained once. `announce` is called with a line before each run."""

    config: TaskConfig
    data: TaskData
    folder: Path
    announce: Callable[[str], None]
    partition: int | None = None  # the `data.seed` that drew the splits, if there are several
    pictures: PictureFeatures = field(default_factory=PictureFeatures)  # for all runs of `hog`

    def metrics(self, name: str, value: float | None, seed: int) -> dict[str, Any]:
        """The metrics of a run. It is trained unless it is finished.

        Args:
            value: the learning rate; of a yardstick C, and None for `majority`.
        """
        short, long = ("c", "C") if name in YARDSTICKS else ("lr", "learning rate")
        part, setting = ("", "") if value is None else (f"_{short}{value:.3g}", f"{long} {value:.3g}, ")
        folder = self.folder / "runs" / f"{name}{part}{self._of_partition('_partition{}')}_seed{seed}"
        line = f"{name}: {setting}{self._of_partition('partition {}, ')}seed {seed}"
        config = variant(self.config, name, value, seed)
        if name in METHODS:
            return metrics_of(config, self.data, folder, self.announce, self.trunk_cache, line)

        def measured() -> dict[str, Any]:
            return measure(name, value, config, self.data, self.pictures)

        return yardstick_metrics_of(config, self.data, folder, self.announce, measured, line)

    def _of_partition(self, text: str) -> str:
        return "" if self.partition is None else text.format(self.partition)

    @property
    def trunk_cache(self) -> Path:
        """The frozen layers' outputs, which all runs share."""
        return self.folder / "trunk_cache"


def partitions_of(
    backbones: Sequence[Runs], partitions: Sequence[int], load: Callable[[TaskConfig], TaskData]
) -> list[list[Runs]]:
    """The runs of each backbone by partition; each draws other splits, with its number as `data.seed`.

    Raises ConfigError if the configuration has splits of its own, which no seed changes.
    """
    config, data = backbones[0].config, backbones[0].data
    given = [name for name in ("validation", "test") if getattr(config.data, name) is not None]
    if given or config.data.root is not None:
        what = f"data.{given[0]}" if given else "data.root"
        raise ConfigError(f"--partitions: {what} gives a split, which no seed changes; put all items into data.train")

    def drawn(config: TaskConfig, number: int) -> TaskConfig:
        return override(config, [f"--data.seed={number}"])

    splits = {number: data if number == config.data.seed else load(drawn(config, number)) for number in partitions}
    return [
        [
            replace(runs, config=drawn(runs.config, number), data=each, partition=number)
            for number, each in splits.items()
        ]
        for runs in backbones
    ]


def compare(partitions: Sequence[Runs], methods: Sequence[str], seeds: Sequence[int], search: bool) -> dict[str, Any]:
    """The content of comparison.json, yardsticks first. Without `search`, every method has its first value.

    The first partition alone is searched. Scores are lists: every seed of the first partition, then of the next.
    Of a retrieval task, the frozen features of the picture, of the text and of both come first.
    """
    runs = partitions[0]
    config, data = runs.config, runs.data
    unknown = [name for name in methods if name not in NAMES]
    if unknown:
        raise ConfigError(f"--methods: {unknown[0]} is unknown; choose from {', '.join(NAMES)}, or all")
    check_installed(methods)
    if config.problem is Problem.RETRIEVAL and (given := [name for name in methods if name in YARDSTICKS]):
        raise ConfigError(
            f"--methods: {given[0]} answers with labels, and {config.task} is a retrieval task; leave it out"
        )
    metric = headline_metric(config.problem, data.labels, learning_split(config, data.validation))
    results: dict[str, dict[str, Any]] = {}
    for name in sorted(methods, key=lambda name: name not in YARDSTICKS):
        value = YARDSTICKS[name] if name in YARDSTICKS else start_rate(config, name)
        searched: dict[float, float | None] = {}
        if search and value is not None:
            value, searched = search_value(runs, name, value, seeds[0])
        measured = [each.metrics(name, value, seed) for each in partitions for seed in seeds]
        if config.problem is Problem.RETRIEVAL and not results:
            results |= _frozen_scores(measured)
        results[name] = {
            **({"learning_rate": None, "strength": value} if name in YARDSTICKS else {"learning_rate": value}),
            "searched": {f"{tried:.3g}": score for tried, score in sorted(searched.items())},
            **_scores(measured, metric),
        }
    shutil.rmtree(runs.trunk_cache, ignore_errors=True)
    header: dict[str, Any] = {"task": config.task, "problem": config.problem.value, "metric": metric}
    header["seeds"] = list(seeds)
    if runs.partition is not None:
        header["partitions"] = [each.partition for each in partitions]
    return {**header, "methods": results}


def compare_backbones(
    backbones: Sequence[Sequence[Runs]], methods: Sequence[str], seeds: Sequence[int], search: bool
) -> dict[str, dict[str, Any]]:
    """The comparison of each backbone, given by its partitions, in a folder of its own below the runs' folder.

    Yardsticks need no backbone, so only the first comparison has them.
    """
    names = [partitions[0].config.backbone for partitions in backbones]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"--backbones names {twice[0]} twice")
    compared: dict[str, dict[str, Any]] = {}
    for number, (name, partitions) in enumerate(zip(names, backbones, strict=True)):
        own = [method for method in methods if number == 0 or method not in YARDSTICKS]
        folder = partitions[0].folder / f"{number}-{Path(name).name}"
        partitions[0].announce(f"backbone {name}: {folder}")
        compared[name] = compare([replace(each, folder=folder) for each in partitions], own, seeds, search)
    return compared


def start_rate(config: TaskConfig, name: str) -> float:
    """The configured learning rate; if none is, the paper's for methods without the probe: the default is too low."""
    is_plain = METHODS[name].get("train.probe") is False
    is_given = "learning_rate" in config.train.model_fields_set
    return _PAPER_RATE if is_plain and not is_given else config.train.learning_rate


def search_value(runs: Runs, name: str, first: float, seed: int) -> tuple[float, dict[float, float | None]]:
    """The learning rate, or C, with the best validation score, and the score of every one that was tried.

    Three neighbouring values are tried first, then values beyond an edge while the best value is at that edge.
    """

    learning = learning_split(runs.config, runs.data.validation)
    metric = selection_metric(runs.config, runs.data.labels, learning)

    def validation_score(value: float) -> float | None:  # None: training diverged
        try:
            return selection_score(runs.metrics(name, value, seed)["validation"]["overall"], metric)
        except DivergedError as error:
            runs.announce(f"{name}: {error}")
            return None

    start = first * (_FULL if name == "full" else 1.0)
    scores = search_ladder(*rates_around(start), validation_score)
    return best(scores, start), scores


def _scores(runs: Sequence[dict[str, Any]], metric: str) -> dict[str, Any]:
    """The scores of one method. Each is a list over the runs."""
    return {
        "trainable_parameters": runs[0]["trainable_parameters"],
        "seconds": [run["seconds"]["train"] for run in runs],
        "validation": [run["validation"]["overall"][metric] for run in runs],
        "test": test_scores_of(runs),
    }


def _frozen_scores(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The scores of the frozen features, which any run of a retrieval task has, by their names."""
    found = [run["baselines"] for run in runs]
    metric, views = found[0]["metric"], found[0]["test"]
    return {
        f"frozen {name}": {
            "learning_rate": None,
            "searched": {},
            "trainable_parameters": 0,
            "seconds": [0.0] * len(runs),
            "validation": [each["validation"]["overall"][name] for each in found],
            "test": {view: {metric: [each["test"][view][name] for each in found]} for view in views},
        }
        for name in found[0]["names"]
    }


def variant(config: TaskConfig, name: str, value: float | None, seed: int) -> TaskConfig:
    """The configuration of one run. The seed also draws the missing tables, so that runs of a seed are paired."""
    changes: dict[str, JsonValue] = {"train.seed": seed}
    if name in METHODS:
        changes |= {**METHODS[name], "train.learning_rate": float(f"{value:.3g}")}
    for split in ("train", "validation", "test"):
        if getattr(config.missing, split).table is None:
            changes[f"missing.{split}.seed"] = seed
    return override(config, [f"--{field}={'null' if value is None else value}" for field, value in changes.items()])
