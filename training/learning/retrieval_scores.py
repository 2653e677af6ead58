"""Metrics of a retrieval task: the share of queries whose target is among the k nearest, by presence pattern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model_store import Pattern
from training.data.missing import Lacks, Table
from training.learning.encoded_pairs import EncodedPairs, Ranks, rank_all
from training.learning.evaluation import Scores
from training.learning.intervals import Interval, OfSums, bootstrap, wilson

_NEAREST = (1, 5, 10)


def recall_scores(ranks: Ranks) -> Scores:
    """`recall_at_1`, `recall_at_5`, `recall_at_10` and `log_loss`, the mean InfoNCE over all targets.

    None without queries, or if a similarity is not finite.
    """
    count = len(ranks.rank)
    if count == 0 or not bool(ranks.loss.isfinite().all()):
        return {"items": count, **{f"recall_at_{k}": None for k in _NEAREST}, "log_loss": None}
    recalls = {f"recall_at_{k}": round(float((ranks.rank < k).double().mean()), 6) for k in _NEAREST}
    return {"items": count, **recalls, "log_loss": round(float(ranks.loss.double().mean()), 6)}


def evaluate_pairs(
    head: nn.Linear, encoded: Mapping[str, EncodedPairs], tables: Mapping[str, Table], temperature: float
) -> dict[str, Any]:
    """Scores of each encoded split over all its targets, overall and per presence pattern of the query.

    `overall` has every query under the split's missing table. A pattern has every query that allows it, without its
    other modality. `intervals` has the 95 % intervals, and `targets` the number of distinct targets of each split.
    """
    scores: dict[str, dict[str, Scores]] = {}
    intervals: dict[str, dict[str, dict[str, Interval]]] = {}
    for name, pairs in encoded.items():
        ranks = ranks_by_view(head, pairs, tables[name], temperature)
        scores[name] = {view: recall_scores(each) for view, each in ranks.items()}
        intervals[name] = {view: _intervals(scores[name][view], each) for view, each in ranks.items()}
    return {
        **scores,
        "intervals": intervals,
        "targets": {name: len(pairs.gallery.targets) for name, pairs in encoded.items()},
    }


def ranks_by_view(head: nn.Linear, pairs: EncodedPairs, table: Table, temperature: float) -> dict[str, Ranks]:
    """The ranks under the missing table (`overall`), and under each pattern of the queries that allow it."""
    ranks = {"overall": pairs.ranks(head, table, temperature)}
    for pattern in Pattern:
        hidden, chosen = pairs.under(pattern)
        every, rows = pairs.ranks(head, hidden, temperature), torch.from_numpy(chosen)
        ranks[pattern.value] = Ranks(every.rank[rows], every.loss[rows])
    return ranks


def vector_scores(vectors: Tensor, contents: Tensor, temperature: float) -> Scores:
    """The scores of pairs.

    Args:
        vectors: (N, 2, D), of queries and targets.
        contents: (N,), equal for equal targets.
    """
    distinct, own = torch.unique(contents, return_inverse=True)
    first = torch.full((len(distinct),), len(contents)).scatter_reduce(0, own, torch.arange(len(contents)), "amin")
    return recall_scores(rank_all(vectors[:, 0], vectors[first, 1], own, temperature))


def frozen_baselines(encoded: Mapping[str, EncodedPairs], tables: Mapping[str, Table]) -> dict[str, Any]:
    """For metrics.json: by split and view, `recall_at_1` of the frozen backbone without a trained part.

    `picture` and `text` are the query's normalised features of one modality, and `sum` is the sum of both. A target
    is the sum of the normalised features that it has. A query that lacks the modality finds nothing.
    """
    return {
        "metric": "recall_at_1",
        "names": ["picture", "text", "sum"],
        **{name: _baselines_of(pairs, tables[name]) for name, pairs in encoded.items()},
    }


def _baselines_of(pairs: EncodedPairs, table: Table) -> dict[str, dict[str, float | None]]:
    everything = np.ones(len(table), dtype=bool)
    views = {"overall": (table, everything), **{pattern.value: pairs.under(pattern) for pattern in Pattern}}
    gallery_image, gallery_text = _unit_features(pairs.gallery.features(pairs.gallery.natural))
    gallery = functional.normalize(gallery_image + gallery_text, dim=-1)
    found: dict[str, dict[str, float | None]] = {}
    for view, (hidden, chosen) in views.items():
        image, text = _unit_features(pairs.queries.features(hidden))
        lacks, rows = torch.from_numpy(np.asarray(hidden, np.int64)), torch.from_numpy(chosen)
        usable = {
            "picture": (image, lacks != Lacks.IMAGE),
            "text": (text, lacks != Lacks.TEXT),
            "sum": (functional.normalize(image + text, dim=-1), torch.ones(len(lacks), dtype=torch.bool)),
        }
        found[view] = {}
        for name, (queries, can_find) in usable.items():
            hits = (rank_all(queries, gallery, pairs.queries.targets, 1.0).rank == 0) & can_find
            is_defined = bool((can_find & rows).any())
            found[view][name] = round(float(hits[rows].double().mean()), 6) if is_defined else None
    return found


def _unit_features(features: Tensor) -> tuple[Tensor, Tensor]:
    """Image and text features (n, P) of length 1 from (n, 2P); zeros stay zeros."""
    image, text = features.chunk(2, dim=-1)
    return functional.normalize(image, dim=-1), functional.normalize(text, dim=-1)


def _intervals(scores: Scores, ranks: Ranks) -> dict[str, Interval]:
    if scores["log_loss"] is None:
        return {}
    count = len(ranks.loss)
    known = {name: value for name, value in scores.items() if value is not None and name != "items"}
    recalls = {name: wilson(value, count) for name, value in known.items() if name != "log_loss"}
    columns = np.stack([ranks.loss.double().numpy(), np.ones(count)], axis=1)
    mean = OfSums(columns, lambda sums: sums[:, 0] / sums[:, 1])
    return recalls | bootstrap(known, {"log_loss": mean}, count)
