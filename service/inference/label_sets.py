"""The label set of an answer: the labels among which the true one is with the coverage that a client asks for."""

from __future__ import annotations

import numpy as np

from model_store import Manifest, Pattern, Problem
from model_store.label_sets import WATCHED_COVERAGE, LabelSets
from service.api.answers import LabelSet
from service.errors import Code, ServiceError
from service.models.head import Decision


def check_coverage(manifest: Manifest, pattern: Pattern, coverage: float) -> LabelSets:
    """The label sets of a version, which support a coverage. Raises ServiceError `coverage_unsupported`."""
    sets = manifest.label_sets
    if sets is None:
        which = f"Version {manifest.version} of {manifest.task}"
        detail = f"{which} has no label sets; leave out coverage, or train the task again."
        raise ServiceError(Code.COVERAGE_UNSUPPORTED, detail, field="coverage")
    if not sets.supports(pattern, coverage):
        highest = sets.highest_coverage(pattern)
        most = "none" if highest is None else f"at most {highest:g}"
        detail = f"The calibration items with the modalities of this item ({pattern}) support a coverage of {most}."
        raise ServiceError(Code.COVERAGE_UNSUPPORTED, detail, field="coverage")
    return sets


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
