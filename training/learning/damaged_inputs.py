"""How a model does on damaged pictures and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from model_store import Pattern, Problem
from training.data.corruptions import (
    PICTURE_KINDS,
    STRENGTHS,
    TEXT_KINDS,
    with_damaged_picture,
    with_damaged_text,
)
from training.data.examples import Example
from training.data.splits import Split
from training.learning.batches import Collator
from training.learning.encoded_split import EncodedSplit, encode
from training.learning.evaluation import score
from training.model.classifier import MissingModalityClassifier

MOST_ITEMS = 200  # chosen at random: each is encoded sixteen times, which takes minutes with a large backbone


def damaged_scores(
    model: MissingModalityClassifier, split: Split, collator: Collator, problem: Problem, metric: str
) -> dict[str, Any]:
    """A score of a split's items, at most MOST_ITEMS, by kind of damage, presence pattern and strength.

    Args:
        metric: one of the names of `score`.

    Returns:
        `items`; `undamaged` by pattern; `damaged` by kind, pattern and strength ("1" to "3"). A score is None if no
        item allows the pattern.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(split.items))[:MOST_ITEMS])
    sample = replace(split, items=[split.items[index] for index in chosen])
    whole = encode(model, sample, collator)
    head = model.cpu().head

    def score_of(encoded: EncodedSplit, pattern: Pattern) -> float | None:
        answers = encoded.of_pattern(head, pattern)
        return score(answers.logits, answers.targets, problem)[metric]

    def encoded(kind: str, strength: int, items: Sequence[Example]) -> EncodedSplit:
        return encode(model, replace(sample, name=f"{kind}, strength {strength}", items=[*items]), collator)

    damaged: dict[str, dict[str, dict[str, float | None]]] = {
        **{kind: {Pattern.BOTH: {}, Pattern.IMAGE: {}} for kind in PICTURE_KINDS},
        **{kind: {Pattern.BOTH: {}, Pattern.TEXT: {}} for kind in TEXT_KINDS},
    }
    for kind, by_pattern in damaged.items():
        for strength in STRENGTHS:  # one tower runs: the other modality's features are those of the undamaged items
            if kind in PICTURE_KINDS:
                items = [replace(with_damaged_picture(item, kind, strength), text=None) for item in sample.items]
                changed = replace(whole, image=encoded(kind, strength, items).image)
            else:
                items = [replace(with_damaged_text(item, kind, strength), image=None) for item in sample.items]
                changed = replace(whole, text=encoded(kind, strength, items).text)
            for pattern, scores in by_pattern.items():
                scores[str(strength)] = score_of(changed, Pattern(pattern))
    return {
        "items": len(sample.items),
        "undamaged": {pattern.value: score_of(whole, pattern) for pattern in Pattern},
        "damaged": damaged,
    }
