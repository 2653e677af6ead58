"""The YAML at the head of a model card, as the `modelcard.md` of the Hugging Face hub specifies it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import groupby

import yaml
from pydantic import JsonValue

from model_store.describe.manifest_summary import Score, approach, data_sources, metric_name, scores
from model_store.describe.tables import plain
from model_store.manifest import Manifest, Pattern, Problem

_HUB_ID = re.compile(r"(?=.{1,96}$)[A-Za-z0-9][\w.-]*/[A-Za-z0-9]([\w.-]*\w)?", re.ASCII)
_PIPELINE = "image-classification"  # the hub has no tag for an image, a text, or both
_OF_RETRIEVAL = "feature-extraction"
_METRICS = {"macro_f1": "f1", "macro_f1_calibrated": "f1", "auroc": "roc_auc", "ece_calibrated": "ece"}
_NOT_EVALUATED = {"items", "confidence"}


def front_matter(manifest: Manifest) -> str:
    """The front matter, from `---` to `---`, without a licence and a language: a manifest has neither."""
    measured = [score for score in scores(manifest) if score.metric not in _NOT_EVALUATED]
    kind = approach(manifest).replace(" ", "-")
    family, is_retrieval = manifest.backbone.family, manifest.problem is Problem.RETRIEVAL
    also = ["feature-extraction"] if is_retrieval else ["text-classification"]
    data: dict[str, JsonValue] = {
        "library_name": "mora-serve",
        "pipeline_tag": _OF_RETRIEVAL if is_retrieval else _PIPELINE,
        "tags": ["mora", "missing-modality", "multimodal", "onnx", *also, kind, family],
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


def _task_type(manifest: Manifest, pattern: str) -> str:
    if manifest.problem is Problem.RETRIEVAL:
        return _OF_RETRIEVAL
    return "text-classification" if pattern == Pattern.TEXT else _PIPELINE


def as_yaml(values: Mapping[str, JsonValue]) -> str:
    """YAML in block style. Non-ASCII characters are escaped only if one of them is invisible."""
    visible = json.dumps(values, ensure_ascii=False).isprintable()
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=visible, width=110)


def _results(manifest: Manifest, measured: list[Score]) -> list[JsonValue]:
    """One result for each split and presence pattern; the pattern is the `config` of the data set."""
    sources = data_sources(manifest)
    results: list[JsonValue] = []
    for (split, pattern), group in groupby(measured, key=lambda score: (score.split, score.slice)):
        source = sources.get(split) or next(iter(sources.values()))  # a split without a source is part of the first
        results.append(
            {
                "task": {"type": _task_type(manifest, pattern)},
                "dataset": {
                    "name": plain(source),
                    "type": _data_set(source) or "custom",
                    "config": plain(pattern),
                    "split": plain(split),
                },
                "metrics": [
                    {
                        "type": _hub_metric(manifest, each),
                        "name": metric_name(manifest, each.metric),
                        "value": each.value,
                    }
                    for each in group
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
