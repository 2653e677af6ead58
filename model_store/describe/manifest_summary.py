"""Facts of a manifest, in the words that all descriptions of a version share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from model_store.manifest import Backbone, Graphs, Manifest, Pattern, Problem

_SPLITS = ("train", "validation", "test")
FEW_ITEMS = 50  # below which a score says little; such counts are marked
METRIC_NAMES = {
    "items": "Items",
    "accuracy": "Accuracy",
    "exact_match": "Exact match",
    "macro_f1": "Macro-F1",
    "log_loss": "Log loss",
    "auroc": "AUROC",
    "ece": "Calibration error",
    "ece_calibrated": "Calibration error as served",
    "macro_f1_calibrated": "Macro-F1 as served",
    "confidence": "Mean confidence",
    "recall_at_1": "Recall@1",
    "recall_at_5": "Recall@5",
    "recall_at_10": "Recall@10",
}


class Score(NamedTuple):
    """The value of a metric; `slice` is a presence pattern or `overall`."""

    split: str
    slice: str
    metric: str
    value: float


def scores(manifest: Manifest) -> Iterator[Score]:
    """Every metric of a version, without undefined values."""
    for split, slices in manifest.metrics.items():
        for name, row in slices.items():
            yield from (Score(split, name, metric, value) for metric, value in row.items() if value is not None)


def metric_columns(rows: Iterable[Mapping[str, float | None]]) -> list[str]:
    """The metrics of all rows, in the order of their first row."""
    return list(dict.fromkeys(metric for row in rows for metric in row))


def metric_name(manifest: Manifest, metric: str) -> str:
    """A metric in words. Earlier versions named the share of exact matches of a multi-label task its accuracy."""
    if metric == "accuracy" and manifest.problem is Problem.MULTI_LABEL:
        metric = "exact_match"
    return METRIC_NAMES.get(metric, metric)


def interval_of(manifest: Manifest, split: str, view: str, metric: str) -> tuple[float, float] | None:
    """The 95 % interval of a score, or None if none was computed."""
    return manifest.intervals.get(split, {}).get(view, {}).get(metric)


def approach(manifest: Manifest) -> str:
    """The kind of task: `retrieval`, or such as `single-label classification`."""
    if manifest.problem is Problem.RETRIEVAL:
        return "retrieval"
    return f"{manifest.problem.value.replace('_', '-')} classification"


def data_sources(manifest: Manifest) -> dict[str, str]:
    """The source of each split in the training configuration, or the data set of `all splits`."""
    data = manifest.provenance.config.get("data")
    fields = data if isinstance(data, dict) else {}
    splits = {split: str(fields[split]) for split in _SPLITS if fields.get(split) is not None}
    return splits or {"all splits": str(fields.get("format"))}


def calibration_rows(manifest: Manifest) -> Iterator[tuple[Pattern, str, str]]:
    """Each presence pattern with its temperature, and with the rule by which labels are selected."""
    for pattern in Pattern:
        calibration = manifest.calibration[pattern]
        thresholds = calibration.thresholds
        selected = f"{min(thresholds):.2f} to {max(thresholds):.2f}, one a label" if thresholds else "the best label"
        yield pattern, f"{calibration.temperature:.3f}", selected


def highest_coverage(manifest: Manifest, pattern: Pattern) -> str | None:
    """The highest coverage that a pattern's label sets support, and their number of items; None without sets."""
    sets = manifest.label_sets
    highest = None if sets is None else sets.highest_coverage(pattern)
    if sets is None or highest is None:
        return None
    return f"coverage up to {highest:g}, from {sets.by_pattern[pattern].items:,} items"


def logit_error(graphs: Graphs) -> str | None:
    """The largest logit error over the presence patterns, or None if none was measured."""
    error = graphs.largest_error()
    return None if error is None else f"{error:.1e}"


def adaptation(backbone: Backbone) -> str:
    """The layers of the backbone that belong to the task."""
    return (
        f"adapted from layer {backbone.image_first_tail_layer} of {backbone.image_layers} (image) "
        f"and {backbone.text_first_tail_layer} of {backbone.text_layers} (text)"
    )
