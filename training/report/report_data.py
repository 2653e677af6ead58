"""The data of a run's report, computed from the trained task and its encoded test split."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from model_store import Pattern, Problem
from training.config import MissingConfig, MissingType
from training.data.missing import PATTERN_OF, Table, table_for
from training.data.splits import Split, TaskData
from training.learning.batches import MaskedExamples
from training.learning.calibration import reliability
from training.learning.evaluation import EncodedSplit, calibrated, score, selection_metric
from training.learning.runs import TrainedTask
from training.provenance import code_version, machine
from training.report.html_report import Mistake, Report

_MISTAKES = 12
_RATIOS = tuple(step / 10 for step in range(11))


def report_data(
    trained: TrainedTask,
    data: TaskData,
    encoded: EncodedSplit,
    table: Table,
    metrics: dict[str, Any],
    history: list[dict[str, float]],
) -> Report:
    """The report of a run.

    Args:
        encoded, table: the test split and its missing table.
        metrics, history: metrics.json and the Trainer's log.
    """
    config, head = trained.config, trained.model.head
    problem = config.problem
    metric = selection_metric(problem, trained.labels, data.validation)
    logits = encoded.logits(head, table)
    return Report(
        task=config.task,
        problem=problem,
        labels=trained.labels,
        config=config.model_dump(mode="json", exclude_none=True),
        metrics=metrics,
        calibration=trained.calibration,
        metric=metric,
        history=history,
        robustness={kind: _robustness(trained, data.test, encoded, kind, metric) for kind in get_args(MissingType)},
        confusion=(
            multiclass_confusion_matrix(logits, encoded.targets, len(trained.labels)).numpy()
            if problem is Problem.SINGLE_LABEL
            else None
        ),
        reliability={
            pattern: (
                reliability(answers, targets, problem),
                reliability(answers / trained.calibration[pattern].temperature, targets, problem),
            )
            for pattern in Pattern
            for answers, targets in [encoded.of_pattern(head, pattern)]
        },
        mistakes=_mistakes(trained, data.test, logits, encoded.targets, table),
        provenance={"code": code_version(), "data": trained.dataset_fingerprint, "machine": machine()},
    )


def _robustness(
    trained: TrainedTask, test: Split, encoded: EncodedSplit, kind: MissingType, metric: str
) -> list[tuple[float, float]]:
    """The metric at each missing ratio. The table of each ratio is drawn with the test split's seed."""
    config, points = trained.config, []
    for ratio in _RATIOS:
        setting = MissingConfig(type=kind, ratio=ratio, seed=config.missing.test.seed)
        logits = encoded.logits(trained.model.head, table_for(test, config.task, setting))
        value = score(logits, encoded.targets, config.problem)[metric]
        if value is not None:
            points.append((ratio, value))
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
    order = torch.where(wrong, best.values, -1.0).argsort(descending=True)[: min(_MISTAKES, int(wrong.sum()))]
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
