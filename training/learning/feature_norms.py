"""The mean norms of both towers' features, by which they are made comparable."""

from __future__ import annotations

import random
from dataclasses import replace

from torch import Tensor

from training.data.missing import Lacks
from training.data.splits import Split
from training.learning.batches import Collator
from training.learning.encoded_split import encode
from training.model.classifier import MissingModalityClassifier

_MOST_ITEMS = 1000  # more would hardly change a mean


def feature_norms(model: MissingModalityClassifier, split: Split, collator: Collator) -> tuple[float, float]:
    """The mean norm of the image features and of the text features of queries and targets; 1 where there are none."""
    items = [*split.sides]
    random.Random(0).shuffle(items)  # noqa: S311 - a file may be sorted
    encoded = encode(model, replace(split, items=items[:_MOST_ITEMS]), collator)
    return (
        _mean_norm(encoded.image[encoded.natural != Lacks.IMAGE]),
        _mean_norm(encoded.text[encoded.natural != Lacks.TEXT]),
    )


def _mean_norm(features: Tensor) -> float:
    norm = float(features.norm(dim=-1).mean()) if len(features) else 0.0
    return norm or 1.0
