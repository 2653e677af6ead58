"""The gate of publishing: a version that is worse than the live one is published, but does not become live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import JsonValue

from model_store import ItemScores, Manifest, ManifestDraft, NotFoundError, Pattern, Store, StoreError, publish
from training.errors import first_few
from training.learning.paired import PairedDifference, paired_difference

_WORDS = {Pattern.BOTH: "image and text", Pattern.IMAGE: "image only", Pattern.TEXT: "text only"}
_OF_RUN = {"problem", "labels", "head", "metrics", "training_mix", "test_scores"}
_METRICS = {
    "accuracy": "accuracy",
    "f1": "mean F1 of an item's labels",
    "recall_at_1": "share of queries whose target is the nearest",
}

Scores = Mapping[Pattern, Sequence[float | None]]


@dataclass(frozen=True)
class Decision:
    """Whether a version may become live, and what the user is told.

    `comparison` is the comparison with the live version, or the reason why there is none; `warnings` is that with the
    majority label. `worse` names the patterns on which the version is worse than the live one, which it then must not
    replace.
    """

    comparison: tuple[str, ...]
    warnings: tuple[str, ...]
    worse: tuple[str, ...] = ()


class _NotComparableError(Exception):
    """The version cannot be compared with the live one; the message says why."""


class _Comparison(NamedTuple):
    """The mean scores of a yardstick and of a version on the test items of one presence pattern."""

    pattern: Pattern
    items: int
    before: float
    after: float
    difference: PairedDifference

    def __str__(self) -> str:
        mean, low, high = (100 * value for value in self.difference)
        return (
            f"{100 * self.after:.1f} % against {100 * self.before:.1f} %, {mean:+.1f} points "
            f"(95 % interval {low:+.1f} to {high:+.1f}, {self.items:,} items)"
        )


def decide(store: Store, draft: ManifestDraft, scores: ItemScores | None, max_loss: float) -> Decision:
    """Compare a new version with the live version of its task on the same test items, and with its majority label.

    The version is worse on a pattern if its score is lower by more than `max_loss` points, and the 95 % interval of the
    difference excludes zero. The majority label decides nothing: accuracy is not the aim of every task.

    Args:
        scores: of the new version, if its run has them.
    """
    warnings = () if scores is None else _majority_warnings(scores)
    try:
        live, earlier, scores = _comparable(store, draft, scores)
    except _NotComparableError as error:
        return Decision((f"not compared with a live version: {error}",), warnings)
    compared = _compare(earlier.patterns, scores.patterns)
    title = f"compared with version {live}, which is live, on the same test items ({_METRICS[scores.metric]}):"
    lines = (f"  {_WORDS[each.pattern]}: {each}" for each in compared)
    worse = (each.pattern for each in compared if -100 * each.difference.mean > max_loss and each.difference.high < 0)
    return Decision((title, *lines), warnings, tuple(_WORDS[pattern] for pattern in worse))


def publish_unless_worse(
    store: Store,
    draft: ManifestDraft,
    blobs: Mapping[str, bytes],
    scores: ItemScores | None,
    max_loss: float,
    signing_key: Ed25519PrivateKey | None = None,
) -> tuple[Manifest, Decision]:
    """Publish a version, which becomes live unless it is worse than the version that is live until then.

    Args:
        scores, max_loss: as for `decide`; blobs, signing_key: as for `publish`.
    """
    decisions: list[Decision] = []

    def is_no_worse() -> bool:
        decisions.append(decide(store, draft, scores, max_loss))
        return not decisions[0].worse

    manifest = publish(store, draft, blobs, signing_key, make_live=is_no_worse)
    return manifest, decisions[0]


def published_before(store: Store, draft: ManifestDraft) -> int | None:
    """The newest version of the store that was made of the run of a draft, with its settings; None if there is none."""
    try:
        versions = store.versions(draft.task)
    except NotFoundError:
        return None
    for version in reversed(versions):
        with suppress(StoreError):  # a damaged version is no reason not to publish
            if _of_run(store.verify(draft.task, version)) == _of_run(draft):
                return version
    return None


def _of_run(manifest: ManifestDraft) -> dict[str, JsonValue]:
    """What the run decides. Its graphs may differ in the last digits each time that they are exported."""
    fields = manifest.model_dump(mode="json", include=_OF_RUN)
    return fields | {"provenance": manifest.provenance.model_dump(mode="json", exclude={"created_at"})}


def _majority_warnings(scores: ItemScores) -> tuple[str, ...]:
    if scores.majority_label is None:
        return ()
    return tuple(
        f"{_WORDS[each.pattern]}: the version is {'worse' if each.difference.high < 0 else 'no better'} than always "
        f"answering {scores.majority_label!r}: {each}"
        for each in _compare(dict.fromkeys(Pattern, scores.majority), scores.patterns)
        if each.difference.mean <= 0
    )


def _compare(before: Scores, after: Scores) -> list[_Comparison]:
    """One comparison for each pattern that test items can have."""
    comparisons = []
    for pattern in Pattern:
        pairs = zip(before[pattern], after[pattern], strict=True)
        both = np.array([pair for pair in pairs if None not in pair], dtype=np.float64).reshape(-1, 2)  # (n, 2)
        if len(both):
            before_mean, after_mean = both.mean(axis=0).tolist()
            difference = paired_difference(*both.T)
            comparisons.append(_Comparison(pattern, len(both), before_mean, after_mean, difference))
    return comparisons


def _comparable(store: Store, draft: ManifestDraft, scores: ItemScores | None) -> tuple[int, ItemScores, ItemScores]:
    """Number and scores of the live version, and the scores of the new one. Raises _NotComparableError."""
    if scores is None:
        cure = "`mora-train evaluate DIR` adds them"
        raise _NotComparableError(f"an earlier release made this run, without the scores of its test items; {cure}")
    manifest, earlier = _live(store, draft.task)
    name = f"version {manifest.version}"
    if earlier is None:
        raise _NotComparableError(f"{name} was published by an earlier release, without the scores of its test items")
    if earlier.metric != scores.metric:
        raise _NotComparableError(f"{name} is of the problem {manifest.problem}, the new one of {draft.problem}")
    if differences := _label_differences(manifest, draft):
        raise _NotComparableError(f"{name} has other labels ({differences})")
    if (earlier.items, len(earlier.majority)) != (scores.items, len(scores.majority)):
        raise _NotComparableError(f"{name} was tested on other items")
    return manifest.version, earlier, scores


def _live(store: Store, task: str) -> tuple[Manifest, ItemScores | None]:
    try:
        version, is_withdrawn = store.live(task), store.is_withdrawn(task)
    except NotFoundError:
        version, is_withdrawn = None, False
    except StoreError as error:
        raise _NotComparableError(f"it is not known which one is live: {error}") from error
    if version is None:
        raise _NotComparableError("the task is withdrawn" if is_withdrawn else "the task has none")
    try:
        manifest = store.manifest(task, version)
        return manifest, store.test_scores(manifest)
    except StoreError as error:
        raise _NotComparableError(f"version {version} cannot be read: {error}") from error


def _label_differences(live: Manifest, draft: ManifestDraft) -> str:
    only_live, only_new = (
        [repr(label) for label in these if label not in those]
        for these, those in ((live.labels, draft.labels), (draft.labels, live.labels))
    )
    parts = (f"{first_few(labels)} {where}" for labels, where in ((only_new, "added"), (only_live, "gone")) if labels)
    return ", ".join(parts)
