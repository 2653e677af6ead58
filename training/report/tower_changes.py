"""Means over the weights of a tower that training changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

_OF = {"before": "pretrained", "after": "adapted", "change": "their difference"}


@dataclass(frozen=True)
class TowerChange:
    """The changed weights of one tower. All but `weights` are means over them."""

    weights: int
    relative_change: float  # |W - W0| / |W0|
    effective_rank: Mapping[str, float]  # by the names of `spectra`
    spectra: Mapping[str, Sequence[float]]  # singular values over the largest of W0, largest first


def tower_changes(weights: Sequence[Mapping[str, Any]]) -> dict[str, TowerChange]:
    """The towers with changed weights, from the `weights` of analysis.json. Spectra are cut to the shortest."""
    towers: dict[str, list[Mapping[str, Any]]] = {}
    for weight in weights:
        towers.setdefault(weight["tower"], []).append(weight)
    return {tower: _change_of(rows) for tower, rows in towers.items()}


def _change_of(rows: Sequence[Mapping[str, Any]]) -> TowerChange:
    ranks = {name: fmean(row["effective_rank"][key] for row in rows) for key, name in _OF.items()}
    spectra = {name: _mean_spectrum(rows, key) for key, name in _OF.items()}
    return TowerChange(len(rows), fmean(row["relative_change"] for row in rows), ranks, spectra)


def _mean_spectrum(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    scaled = ([value / row["before"][0] for value in row[key]] for row in rows)
    return [fmean(values) for values in zip(*scaled, strict=False)]
