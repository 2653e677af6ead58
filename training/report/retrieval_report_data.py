"""The data of the report of a retrieval task."""

from __future__ import annotations

from typing import Any, get_args

from training.config import MissingConfig, MissingType
from training.data.copies import distinct_targets
from training.data.missing import PATTERN_OF, Table, table_for
from training.data.splits import Split, TaskData
from training.learning.batches import MaskedExamples
from training.learning.encoded_pairs import EncodedPairs
from training.learning.retrieval_scores import recall_scores
from training.learning.runs import TrainedTask
from training.provenance import code_version, machine, public_config
from training.report.html_report import Mistake, Report

_MISTAKES = 12
_RATIOS = tuple(step / 10 for step in range(11))


def retrieval_report_data(
    trained: TrainedTask,
    data: TaskData,
    encoded: EncodedPairs,
    table: Table,
    metrics: dict[str, Any],
    history: list[dict[str, float]],
    analysis: dict[str, Any] | None = None,
) -> Report:
    """The report of a run, from its test split with the missing table, its metrics.json and the Trainer's log.

    Args:
        analysis: what `mora-train analyse` found.
    """
    config = trained.config
    return Report(
        task=config.task,
        problem=config.problem,
        labels=(),
        config=public_config(config.model_dump(mode="json", exclude_none=True)),
        metrics=metrics,
        calibration={},
        metric="recall_at_1",
        history=history,
        robustness={kind: _robustness(trained, data.test, encoded, kind) for kind in get_args(MissingType)},
        confusion=None,
        reliability={},
        set_scores={},
        mistakes=_mistakes(trained, data.test, encoded, table),
        analysis=analysis,
        provenance={"code": code_version(), "data": trained.dataset_fingerprint, "machine": machine()},
    )


def _robustness(
    trained: TrainedTask, test: Split, encoded: EncodedPairs, kind: MissingType
) -> list[tuple[float, float]]:
    """Recall@1 at each missing ratio of the queries. The table of each ratio is drawn with the test split's seed."""
    config, points = trained.config, []
    for ratio in _RATIOS:
        setting = MissingConfig(type=kind, ratio=ratio, seed=config.missing.test.seed)
        hidden = table_for(test, config.task, setting)
        recall = recall_scores(encoded.ranks(trained.model.head, hidden, config.train.temperature))["recall_at_1"]
        if recall is not None:
            points.append((ratio, recall))
    return points


def _mistakes(trained: TrainedTask, test: Split, encoded: EncodedPairs, table: Table) -> list[Mistake]:
    """The queries whose nearest target is a wrong one, the most similar first."""
    head, gallery, items = trained.model.head, distinct_targets(test.items), MaskedExamples(test, table)
    best = (encoded.queries.logits(head, table) @ encoded.targets(head).T).max(dim=-1)
    wrong = best.indices != encoded.queries.targets
    order = best.values.masked_fill(~wrong, -2.0).argsort(descending=True)[: min(_MISTAKES, int(wrong.sum()))]
    return [
        Mistake(
            image=items[row].image,
            text=items[row].text,
            true=(),
            predicted="",
            score=float(best.values[row]),
            pattern=PATTERN_OF[table[row]],
            targets={
                "nearest": gallery[int(best.indices[row])],
                "true": gallery[int(encoded.queries.targets[row])],
            },
        )
        for row in order.tolist()
    ]
