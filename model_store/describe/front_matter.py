"""The YAML at the head of a model card, by the `modelcard.md` specification of the Hugging Face hub."""

from __future__ import annotations

import re
from itertools import groupby

from pydantic import JsonValue

from model_store.describe.manifest_summary import Score, approach, data_sources, metric_name, scores
from model_store.describe.markdown import as_yaml
from model_store.describe.tables import plain
from model_store.manifest import Manifest, Pattern, Problem

_HUB_ID = re.compile(r"(?=.{1,96}$)[A-Za-z0-9][\w.-]*/[A-Za-z0-9]([\w.-]*\w)?", re.ASCII)
_PIPELINE = "image-classification"  # the hub has no tag for an image, a text, or both
_METRICS = {"macro_f1": "f1", "macro_f1_calibrated": "f1", "auroc": "roc_auc", "ece_calibrated": "ece"}
_NO_MEASURE = {"items", "confidence"}


def front_matter(manifest: Manifest) -> str:
    """The front matter, from `---` to `---`. It has no licence and no language: a manifest names neither."""
    measured = [score for score in scores(manifest) if score.metric not in _NO_MEASURE]
    data: dict[str, JsonValue] = {
        "library_name": "mora-serve",
        "pipeline_tag": _PIPELINE,
        "tags": _tags(manifest),
    }
    if _is_hub_id(manifest.backbone.name):
        data["base_model"] = manifest.backbone.name
    datasets = dict.fromkeys(filter(None, map(_data_set, data_sources(manifest).values())))
    if datasets:
        data["datasets"] = [*datasets]
    if measured:
        data["metrics"] = [*dict.fromkeys(_hub_metric(manifest, score) for score in measured)]
        data["model-index"] = [{"name": manifest.task, "results": _results(manifest, measured)}]
    return f"---\n{as_yaml(data)}---\n"


def _tags(manifest: Manifest) -> list[JsonValue]:
    kind = approach(manifest).replace(" ", "-")
    return ["mora", "missing-modality", "multimodal", "onnx", "text-classification", kind, manifest.backbone.family]


def _results(manifest: Manifest, measured: list[Score]) -> list[JsonValue]:
    """One result for each split and presence pattern; the pattern is the `config` of the data set."""
    sources = data_sources(manifest)
    results: list[JsonValue] = []
    for (split, pattern), row in groupby(measured, key=lambda score: (score.split, score.slice)):
        source = sources.get(split) or next(iter(sources.values()))  # a split without a source is part of the first
        results.append(
            {
                "task": {"type": "text-classification" if pattern == Pattern.TEXT else _PIPELINE},
                "dataset": {
                    "name": plain(source),
                    "type": _data_set(source) or "custom",
                    "config": plain(pattern),
                    "split": plain(split),
                },
                "metrics": [
                    {
                        "type": _hub_metric(manifest, score),
                        "name": metric_name(manifest, score.metric),
                        "value": score.value,
                    }
                    for score in row
                ],
            }
        )
    return results


def _hub_metric(manifest: Manifest, score: Score) -> str:
    if score.metric == "accuracy" and manifest.problem is Problem.MULTI_LABEL:
        return "exact_match"
    return _METRICS.get(score.metric, plain(score.metric))


def _data_set(source: str) -> str | None:
    """The hub's name in `owner/name:split`. Without a split, the source may be a folder."""
    name, colon, _ = source.partition(":")
    return name if colon and _is_hub_id(name) else None


def _is_hub_id(name: str) -> bool:
    return _HUB_ID.fullmatch(name) is not None and "--" not in name and ".." not in name
