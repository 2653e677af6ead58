"""The coverage of each class of a single-label task, and the classes whose label sets miss what they promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from model_store import Pattern
from model_store.label_sets import WATCHED_COVERAGE
from training.config import CoverageConfig
from training.data.calibration_split import Divided
from training.data.missing import PATTERN_OF
from training.learning.formed_sets import FormedSets
from training.learning.intervals import binomial_tail

LEAST_CALIBRATION_ITEMS = 30  # of a class that a warning may name
LEAST_SHORTFALL = 0.05  # of the coverage that is promised
_CHANCE = 0.025  # one side of a 95 % interval
_ROUNDING = 1e-6  # of the scores in metrics.json


def class_scores(formed: FormedSets, labels: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """The number of items and their coverage at WATCHED_COVERAGE, for each label that items have."""
    covered, counts = formed.covered(WATCHED_COVERAGE), formed.truth.sum(axis=0)
    return {
        label: {"items": int(counts[row]), "covered": round(float(covered[formed.truth[:, row]].mean()), 6)}
        for row, label in enumerate(labels)
        if counts[row]
    }


def calibration_counts(divided: Divided) -> dict[Pattern, Counter[str]]:
    """The number of calibration items of each label that allow a pattern; empty without calibration items."""
    if divided.calibration is None or divided.calibration_table is None:
        return {}
    counts = {pattern: Counter[str]() for pattern in Pattern}
    for item, lacks in zip(divided.calibration.items, divided.calibration_table, strict=True):
        own = PATTERN_OF[lacks]
        for pattern in Pattern if own is Pattern.BOTH else (own,):
            counts[pattern].update(item.labels)
    return counts


def class_warnings(
    coverage: Mapping[str, Mapping[str, Mapping[str, Any]]],
    counts: Mapping[Pattern, Mapping[str, int]],
    config: CoverageConfig,
) -> Iterator[str]:
    """A warning for each pattern of which classes are covered less than promised, by more than chance.

    A class is named if it has at least 30 calibration items, is covered at least 5 points less than promised, and so
    low a coverage of so many test items has a probability of at most 2.5 % where the promise is kept.

    Args:
        coverage: of `coverage_scores`.
        counts: of `calibration_counts`.
    """
    if config.by == "pattern":
        cause = "coverage.by: class keeps the promise for each class"
    else:
        cause = "the test items of these classes are unlike the validation items"
    for pattern, rows in coverage.items():
        classes = rows.get(f"{WATCHED_COVERAGE:g}", {}).get("by_class", {})
        short = [
            f"{label} ({scores['covered']:.1%} of {scores['items']:,} test items)"
            for label, scores in classes.items()
            if counts[Pattern(pattern)][label] >= LEAST_CALIBRATION_ITEMS and _is_short(**scores)
        ]
        if short:
            have = "image and text" if pattern == Pattern.BOTH else f"{pattern} only"
            promised = f"{WATCHED_COVERAGE:.0%}"
            yield f"items with {have}: label sets that promise {promised} cover less of {', '.join(short)}; {cause}"


def _is_short(items: int, covered: float) -> bool:
    if covered > WATCHED_COVERAGE - LEAST_SHORTFALL + _ROUNDING:
        return False
    return binomial_tail(int(np.rint(covered * items)), items, WATCHED_COVERAGE) <= _CHANCE
