"""The data of the report of a retrieval task."""

from __future__ import annotations

from typing import Any

from training.data.copies import distinct_targets
from training.data.missing import PATTERN_OF, Table
from training.data.splits import Split, TaskData
from training.learning.batches import MaskedExamples
from training.learning.encoded_pairs import EncodedPairs
from training.learning.retrieval_scores import recall_scores
from training.learning.runs import TrainedTask
from training.report.html_report import Mistake, Report
from training.report.report_data import MOST_MISTAKES, facts_of_run, robustness


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
    config, head = trained.config, trained.model.head

    def value_under(hidden: Table) -> float | None:
        return recall_scores(encoded.ranks(head, hidden, config.train.temperature))["recall_at_1"]

    return Report(
        **facts_of_run(trained, metrics, history, analysis),
        calibration={},
        metric="recall_at_1",
        robustness=robustness(config, data.test, value_under),
        confusion=None,
        reliability={},
        set_scores={},
        mistakes=_mistakes(trained, data.test, encoded, table),
    )


def _mistakes(trained: TrainedTask, test: Split, encoded: EncodedPairs, table: Table) -> list[Mistake]:
    """The queries whose nearest target is a wrong one, the most similar first."""
    head, gallery, items = trained.model.head, distinct_targets(test.items), MaskedExamples(test, table)
    best = (encoded.queries.logits(head, table) @ encoded.targets(head).T).max(dim=-1)
    wrong = best.indices != encoded.queries.targets
    order = best.values.masked_fill(~wrong, -2.0).argsort(descending=True)[: min(MOST_MISTAKES, int(wrong.sum()))]
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
