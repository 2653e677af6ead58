"""The data of a run's report, computed from the trained task and its encoded test split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from model_store import Pattern, Problem
from training.config import MissingConfig, MissingType, TaskConfig
from training.data.missing import PATTERN_OF, Table, table_for
from training.data.splits import Split, TaskData
from training.learning.batches import MaskedExamples
from training.learning.calibration import reliability
from training.learning.conformal import formed_sets
from training.learning.encoded_split import EncodedSplit
from training.learning.evaluation import calibrated, headline_metric, score
from training.learning.formed_sets import SetScores
from training.learning.runs import TrainedTask
from training.provenance import code_version, machine, public_config
from training.report.html_report import Mistake, Report

MOST_MISTAKES = 12
_COVERAGES = (*(step / 20 for step in range(10, 20)), 0.99)
_RATIOS = tuple(step / 10 for step in range(11))


def report_data(
    trained: TrainedTask,
    data: TaskData,
    encoded: EncodedSplit,
    table: Table,
    metrics: dict[str, Any],
    history: list[dict[str, float]],
    analysis: dict[str, Any] | None = None,
) -> Report:
    """The report of a run, from its test split with the missing table, its metrics.json and the Trainer's log.

    Args:
        analysis: what `mora-train analyse` found.
    """
    config, head, problem = trained.config, trained.model.head, trained.config.problem
    metric = headline_metric(problem, trained.labels, data.validation)
    logits, confusion = encoded.logits(head, table), None
    if problem is Problem.SINGLE_LABEL:
        confusion = np.zeros((len(trained.labels), len(trained.labels)), dtype=np.int64)  # (true, answered)
        np.add.at(confusion, (encoded.targets.numpy(), logits.argmax(dim=-1).numpy()), 1)

    def value_under(hidden: Table) -> float | None:
        return score(encoded.logits(head, hidden), encoded.targets, problem)[metric]

    return Report(
        **facts_of_run(trained, metrics, history, analysis),
        calibration=trained.calibration,
        metric=metric,
        robustness=robustness(config, data.test, value_under),
        confusion=confusion,
        reliability={
            pattern: (
                reliability(answers.logits, answers.targets, problem),
                reliability(answers.logits / trained.calibration[pattern].temperature, answers.targets, problem),
            )
            for pattern, answers in encoded.by_pattern(head, encoded.natural).items()
        },
        set_scores=_set_scores(trained, encoded),
        mistakes=_mistakes(trained, data.test, logits, encoded.targets, table),
    )


def facts_of_run(
    trained: TrainedTask,
    metrics: dict[str, Any],
    history: list[dict[str, float]],
    analysis: dict[str, Any] | None,
) -> dict[str, Any]:
    """The fields of a report that every problem has, by name."""
    config = trained.config
    return {
        "task": config.task,
        "problem": config.problem,
        "labels": trained.labels,
        "config": public_config(config.model_dump(mode="json", exclude_none=True)),
        "metrics": metrics,
        "history": history,
        "analysis": analysis,
        "provenance": {"code": code_version(), "data": trained.dataset_fingerprint, "machine": machine()},
    }


def _set_scores(trained: TrainedTask, encoded: EncodedSplit) -> dict[Pattern, list[tuple[float, SetScores]]]:
    """The scores of the label sets at each coverage that a pattern supports."""
    formed = formed_sets(trained, encoded.by_pattern(trained.model.head, encoded.natural))
    return {
        pattern: [(coverage, scores) for coverage in _COVERAGES if (scores := sets.scores(coverage)) is not None]
        for pattern, sets in formed.items()
    }


def robustness(
    config: TaskConfig, test: Split, value_under: Callable[[Table], float | None]
) -> Mapping[str, list[tuple[float, float]]]:
    """The metric at each missing ratio of each missing type. A ratio's table is drawn with the test split's seed.

    Args:
        value_under: the metric of the test split under a missing table; None if it cannot be computed.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for kind in get_args(MissingType):
        points[kind] = []
        for ratio in _RATIOS:
            setting = MissingConfig(type=kind, ratio=ratio, seed=config.missing.test.seed)
            value = value_under(table_for(test, config.task, setting))
            if value is not None:
                points[kind].append((ratio, value))
    return points


def _mistakes(trained: TrainedTask, test: Split, logits: Tensor, targets: Tensor, table: Table) -> list[Mistake]:
    """The wrong answers with the highest confidence after calibration."""
    scores, items = calibrated(logits, table, trained.calibration), MaskedExamples(test, table)
    if trained.config.problem is Problem.MULTI_LABEL:
        best = (scores.sigmoid() * (1 - targets)).max(dim=-1)  # the most confident label that is not true
        wrong = torch.ones(len(logits), dtype=torch.bool)
    else:
        best = scores.softmax(dim=-1).max(dim=-1)
        wrong = best.indices != targets
    order = torch.where(wrong, best.values, -1.0).argsort(descending=True)[: min(MOST_MISTAKES, int(wrong.sum()))]
    return [
        Mistake(
            image=items[row].image,
            text=items[row].text,
            true=items[row].labels,
            predicted=trained.labels[int(best.indices[row])],
            score=float(best.values[row]),
            pattern=PATTERN_OF[table[row]],
        )
        for row in order.tolist()
    ]
