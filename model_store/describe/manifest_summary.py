"""What a manifest says, in the words in which every description of a version says it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from model_store.manifest import Backbone, Manifest, Problem

_SPLITS = ("train", "validation", "test")
_METRICS = {
    "items": "Items",
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "auroc": "AUROC",
    "ece": "Calibration error",
    "ece_calibrated": "Calibration error as served",
    "macro_f1_calibrated": "Macro-F1 as served",
    "confidence": "Mean confidence",
}


class Score(NamedTuple):
    """One measured number; `slice` is a presence pattern, or `overall`."""

    split: str
    slice: str
    metric: str
    value: float


def scores(manifest: Manifest) -> Iterator[Score]:
    """Every number that was measured of a version, without those that were undefined."""
    for split, slices in manifest.metrics.items():
        for name, row in slices.items():
            yield from (Score(split, name, metric, value) for metric, value in row.items() if value is not None)


def metric_name(manifest: Manifest, metric: str) -> str:
    """A metric in words; of a multi-label task accuracy asks for the exact set."""
    if metric == "accuracy" and manifest.problem is Problem.MULTI_LABEL:
        return "Exact match"
    return _METRICS.get(metric, metric)


def approach(manifest: Manifest) -> str:
    """Such as `single-label classification`."""
    return f"{manifest.problem.value.replace('_', '-')} classification"


def data_sources(manifest: Manifest) -> dict[str, str]:
    """Where each split came from by the training configuration, or the data set that holds `all splits`."""
    data = manifest.provenance.config.get("data")
    named = data if isinstance(data, dict) else {}
    splits = {split: str(named[split]) for split in _SPLITS if named.get(split) is not None}
    return splits or {"all splits": str(named.get("format"))}


def adaptation(backbone: Backbone) -> str:
    """Which layers of the backbone are the task's own."""
    return (
        f"adapted from layer {backbone.image_first_tail_layer} of {backbone.image_layers} (image) "
        f"and {backbone.text_first_tail_layer} of {backbone.text_layers} (text)"
    )
