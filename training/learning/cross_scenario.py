"""The cross-scenario grid: runs trained on one kind of missingness, tested on every kind (METHOD: protocol)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from model_store import Problem
from training.config import MissingConfig, MissingType
from training.data.missing import Table, table_for
from training.data.splits import Split, TaskData
from training.errors import RunError
from training.learning.encoded_pairs import encode_pairs
from training.learning.encoded_split import encode
from training.learning.evaluation import Scores, headline_metric, score
from training.learning.retrieval_scores import recall_scores
from training.learning.runs import TrainedTask


@dataclass(frozen=True)
class Grid:
    """Scores of each run (rows) under each setting of the test split (columns); None where undefined."""

    metric: str
    trained_on: tuple[str, ...]
    tested_on: tuple[str, ...]
    scores: tuple[tuple[float | None, ...], ...]


def cross_scenario(runs: Sequence[tuple[str, TrainedTask, TaskData]]) -> Grid:
    """Test every run on the items as given and on each missing type at each ratio, drawn with the run's own test seed.

    The ratios are those of the runs' test splits, or 0.7 if none of these hides more.

    Args:
        runs: the name, task and data of each run.

    Raises:
        RunError: the runs were not trained for the same task.
    """
    _, first, _ = runs[0]
    for _, trained, _ in runs[1:]:
        if (trained.config.task, trained.labels) != (first.config.task, first.labels):
            raise RunError(f"a grid needs runs of one task, not of {first.config.task} and {trained.config.task}")
    ratios = sorted({ratio for _, trained, _ in runs if (ratio := trained.config.missing.test.ratio)}) or [0.7]
    settings = [MissingConfig(ratio=0.0)]
    settings += [MissingConfig(type=kind, ratio=ratio) for ratio in ratios for kind in get_args(MissingType)]
    metric, rows = "accuracy", []
    for _, trained, data in runs:
        problem, seed = trained.config.problem, trained.config.missing.test.seed
        metric = headline_metric(problem, trained.labels, data.test)
        seeded = [setting.model_copy(update={"seed": seed}) for setting in settings]
        tables = [table_for(data.test, first.config.task, setting) for setting in seeded]
        rows.append(tuple(scores[metric] for scores in _scores(trained, data.test, tables)))
    names = tuple(f"{name}: {_named(trained.config.missing.train)}" for name, trained, _ in runs)
    return Grid(metric, names, tuple(map(_named, settings)), tuple(rows))


def _scores(trained: TrainedTask, test: Split, tables: Sequence[Table]) -> list[Scores]:
    """The scores of the items under each table."""
    problem, collator = trained.config.problem, trained.collator()
    if problem is Problem.RETRIEVAL:
        pairs, temperature = encode_pairs(trained.model, test, collator), trained.config.train.temperature
        head = trained.model.cpu().head
        return [recall_scores(pairs.ranks(head, table, temperature)) for table in tables]
    encoded = encode(trained.model, test, collator)
    head = trained.model.cpu().head
    return [score(encoded.logits(head, table), encoded.targets, problem) for table in tables]


def _named(setting: MissingConfig) -> str:
    """A kind of missingness in words."""
    return f"{setting.type} {setting.ratio:.0%}" if setting.ratio else "as given"
