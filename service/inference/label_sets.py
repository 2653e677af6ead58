"""The label set of an answer: the labels among which the true one is with the coverage that a client asks for."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from model_store import Manifest, Pattern, Problem
from model_store.label_sets import WATCHED_COVERAGE, LabelSets
from service.api.answers import LabelSet
from service.errors import Code, ServiceError
from service.models.head import Decision

_ROUNDING = 1e-12  # of a coverage


def check_coverage(manifest: Manifest, pattern: Pattern, coverage: float) -> LabelSets:
    """The label sets of a version, which support a coverage. Raises ServiceError `coverage_unsupported`."""
    sets = manifest.label_sets
    if sets is None:
        raise _no_label_sets(manifest.task, manifest.version)
    if not sets.supports(pattern, coverage):
        highest = sets.highest_coverage(pattern)
        most = "none" if highest is None else f"at most {highest:g}"
        detail = f"The calibration items with the modalities of this item ({pattern}) support a coverage of {most}."
        raise ServiceError(Code.COVERAGE_UNSUPPORTED, detail, field="coverage")
    return sets


def check_any_coverage(task: str, version: int, highest: Collection[float], coverage: float) -> None:
    """Refuse a coverage that a version supports for no item. Raises ServiceError `coverage_unsupported`.

    Args:
        highest: the highest coverage of each presence pattern that supports one.
    """
    if not highest:
        raise _no_label_sets(task, version)
    if coverage > max(highest) + _ROUNDING:
        detail = f"Version {version} of {task} supports a coverage of at most {max(highest):g}."
        raise ServiceError(Code.COVERAGE_UNSUPPORTED, detail, field="coverage")


def highest_coverages(manifest: Manifest) -> dict[Pattern, float]:
    """The highest coverage of each presence pattern that supports one; empty for a version without label sets."""
    sets = manifest.label_sets
    highest = {} if sets is None else {pattern: sets.highest_coverage(pattern) for pattern in Pattern}
    return {pattern: value for pattern, value in highest.items() if value is not None}


def label_set(manifest: Manifest, pattern: Pattern, decision: Decision, coverage: float) -> LabelSet:
    """The set of an answer, best label first. Raises ServiceError `coverage_unsupported`."""
    sets = check_coverage(manifest, pattern, coverage)
    is_single = manifest.problem is Problem.SINGLE_LABEL
    members = sets.members(decision.scores, pattern, coverage, single=is_single)
    ranking = np.argsort(-decision.scores, kind="stable")
    labels = [manifest.labels[index] for index in ranking if members[index]]
    return LabelSet(labels=labels, coverage=coverage, review=len(labels) != 1)


def watched_size(manifest: Manifest, pattern: Pattern, decision: Decision) -> int | None:
    """The size of the set at WATCHED_COVERAGE, whatever a client asks for; None for a version that supports none."""
    sets = manifest.label_sets
    if sets is None or pattern not in sets.expected:
        return None
    is_single = manifest.problem is Problem.SINGLE_LABEL
    return int(sets.members(decision.scores, pattern, WATCHED_COVERAGE, single=is_single).sum())


def _no_label_sets(task: str, version: int) -> ServiceError:
    cure = (
        "leave out coverage, or train the task with a validation split of at least 100 items and coverage.share above 0"
    )
    detail = f"Version {version} of {task} has no label sets; {cure}."
    return ServiceError(Code.COVERAGE_UNSUPPORTED, detail, field="coverage")
