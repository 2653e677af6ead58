"""Recall over all targets, by presence pattern, beside the frozen features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from training.data.missing import Lacks
from training.learning.encoded_pairs import EncodedPairs, Ranks, rank_all
from training.learning.encoded_split import EncodedSplit
from training.learning.retrieval_scores import evaluate_pairs, frozen_baselines, recall_scores, vector_scores
from training.model.retriever import UnitHead, sum_of_features

SIZE = 4
ONE, TWO, THREE, FOUR = torch.eye(SIZE)
NONE = torch.zeros(SIZE)


def encoded(rows: list[tuple[Tensor | None, Tensor | None]], targets: list[int]) -> EncodedSplit:
    """Items with these image and text features."""
    lacks = [Lacks.IMAGE if image is None else Lacks.TEXT if text is None else Lacks.NOTHING for image, text in rows]
    image, text = (torch.stack([NONE if row[side] is None else row[side] for row in rows]) for side in (0, 1))
    return EncodedSplit(image, text, NONE, NONE, torch.tensor(targets), np.array(lacks, np.int8))


def head() -> UnitHead:
    """The sum of the features."""
    made = UnitHead(2 * SIZE, SIZE, bias=False)
    with torch.no_grad():
        made.weight.copy_(sum_of_features(SIZE, 1, 1))
    return made


@pytest.fixture
def pairs() -> EncodedPairs:
    """A composed query, one with a misleading text, one of a picture, one of a text; pictures as targets."""
    queries = encoded([(ONE, 3 * TWO), (THREE, ONE), (FOUR, None), (None, ONE)], [1, 2, 3, 0])
    gallery = encoded([(ONE, None), (TWO, None), (THREE, 0.5 * THREE), (FOUR, None)], [10, 11, 12, 13])
    return EncodedPairs(queries, gallery)


def test_recall_is_the_share_of_targets_among_the_nearest() -> None:
    ranks = Ranks(torch.tensor([0, 0, 3, 4, 5, 9, 10, 99]), torch.full((8,), 0.5))

    assert recall_scores(ranks) == {
        "items": 8,
        "recall_at_1": 0.25,
        "recall_at_5": 0.5,
        "recall_at_10": 0.75,
        "log_loss": 0.5,
    }
    nothing = recall_scores(Ranks(torch.zeros(0), torch.zeros(0)))
    assert nothing == {**dict.fromkeys(nothing), "items": 0}
    assert recall_scores(Ranks(torch.tensor([0]), torch.tensor([torch.nan])))["recall_at_1"] is None


def test_scores_are_by_pattern_over_all_targets(pairs: EncodedPairs) -> None:
    result = evaluate_pairs(head(), {"test": pairs}, {"test": pairs.queries.natural}, 0.05)

    assert result["targets"] == {"test": 4}
    shown = {view: (row["items"], row["recall_at_1"], row["recall_at_5"]) for view, row in result["test"].items()}
    assert shown == {
        "overall": (4, 0.75, 1.0),
        "both": (2, 0.5, 1.0),
        "image": (3, 0.666667, 1.0),
        "text": (3, 0.666667, 1.0),
    }
    low, high = result["intervals"]["test"]["overall"]["recall_at_1"]
    assert 0.25 < low < 0.75 < high < 1
    assert set(result["intervals"]["test"]["both"]) == {"recall_at_1", "recall_at_5", "recall_at_10", "log_loss"}


def test_the_missing_table_hides_parts_of_queries(pairs: EncodedPairs) -> None:
    table = pairs.queries.natural.copy()
    table[0] = Lacks.TEXT

    hidden = evaluate_pairs(head(), {"test": pairs}, {"test": table}, 0.05)

    assert hidden["test"]["overall"]["recall_at_1"] == 0.5
    assert hidden["test"]["both"]["items"] == 2, "a pattern has every query that allows it"


def test_the_frozen_features_alone_are_the_baselines(pairs: EncodedPairs) -> None:
    found = frozen_baselines({"test": pairs}, {"test": pairs.queries.natural})

    assert (found["metric"], found["names"]) == ("recall_at_1", ["picture", "text", "sum"])
    # Of the sums of norm one, the first two queries are as similar to another target.
    assert found["test"]["overall"] == {"picture": 0.5, "text": 0.5, "sum": 0.5}
    assert found["test"]["image"] == {"picture": 0.666667, "text": None, "sum": 0.666667}
    assert found["test"]["text"] == {"picture": None, "text": 0.666667, "sum": 0.666667}


def test_vectors_of_pairs_are_ranked_over_distinct_targets() -> None:
    generator = torch.Generator().manual_seed(3)
    contents = torch.tensor([7, -2, 7, 5, 9, 5])
    targets = normalize(torch.randn(10, 8, generator=generator), dim=1)[contents]
    queries = normalize(targets + torch.randn(6, 8, generator=generator), dim=1)

    scores = vector_scores(torch.stack([queries, targets], dim=1), contents, 0.05)

    gallery, own = targets[[0, 1, 3, 4]], torch.tensor([0, 1, 0, 2, 3, 2])
    assert scores == recall_scores(rank_all(queries, gallery, own, 0.05))
    assert scores["items"] == 6
