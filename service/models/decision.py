"""From logits to the labels of an answer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_store import Manifest, Pattern
from service.api.answers import LabelScore
from service.models.head import Vector, scores, selected


class Decision(NamedTuple):
    """What a task says of an item, label by label in the manifest's order: both (C,)."""

    scores: NDArray[np.float64]
    selected: NDArray[np.bool_]


def decide(manifest: Manifest, pattern: Pattern, logits: Vector) -> Decision:
    """Calibrated scores of logits (C,), and which labels they select."""
    calibration = manifest.calibration[pattern]
    by_label = scores(logits, manifest.problem, calibration)
    return Decision(by_label, selected(by_label, calibration))


def ranked(manifest: Manifest, decision: Decision, top_k: int) -> list[LabelScore]:
    """The best labels, best first."""
    return [
        LabelScore(
            label=manifest.labels[place], score=float(decision.scores[place]), selected=bool(decision.selected[place])
        )
        for place in np.argsort(-decision.scores, kind="stable")[:top_k]
    ]


def label_scores(manifest: Manifest, pattern: Pattern, logits: Vector, top_k: int) -> list[LabelScore]:
    """The best labels of logits (C,), best first."""
    return ranked(manifest, decide(manifest, pattern, logits), top_k)
