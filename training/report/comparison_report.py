"""The table of a comparison, as people read it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_store import Pattern
from training.learning.runs import write_json
from training.pipeline.compare import OURS, paired
from training.provenance import machine
from training.report.plots import method_plot

_VIEWS = ("overall", *Pattern)
_PERCENT = 100


def write_comparison(folder: Path, comparison: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Write comparison.json, comparison.md and comparison.svg; `arguments` are those of the command that made it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", comparison)
    heading = [f"`mora-train {shlex.join(arguments)}`", "", f"On {machine()}."]
    (folder / "comparison.md").write_text(markdown(comparison, heading), encoding="utf-8")
    metric = comparison["metric"]
    points = {
        name: {view: found["test"][view][metric] for view in _VIEWS} for name, found in comparison["methods"].items()
    }
    (folder / "comparison.svg").write_text(method_plot(points, metric), encoding="utf-8")


def markdown(comparison: Mapping[str, Any], heading: Sequence[str]) -> str:
    """A Markdown table with mean and standard deviation over seeds, and each method's paired distance from `ours`.

    Args:
        comparison: what `Comparison.run` returned.
        heading: lines above the table, such as command and machine.
    """
    metric, methods = comparison["metric"], comparison["methods"]
    columns = ["method", "learning rate", "trained", "seconds", "validation", *_VIEWS]
    ours = methods.get(OURS)
    if ours is not None:
        columns.append(f"{OURS} leads by")
    lines = [
        *heading,
        "",
        f"{metric} in percent on the test split, mean ± standard deviation over seeds "
        f"{', '.join(map(str, comparison['seeds']))}.",
        "",
        _row(columns),
        _row(["---", *["---:"] * (len(columns) - 1)]),
    ]
    for name, found in methods.items():
        cells = [
            name,
            f"{found['learning_rate']:.3g}{_edge(found)}",
            f"{found['trainable_parameters']:,}",
            f"{np.mean(found['seconds']):.0f}",
            _spread(found["validation"]),
            *(_spread(found["test"][view][metric]) for view in _VIEWS),
        ]
        if ours is not None:
            lead, half = paired(_overall(ours, metric), _overall(found, metric))
            cells.append("" if name == OURS else _interval(lead * _PERCENT, half * _PERCENT))
        lines.append(_row(cells))
    if ours is not None:
        lines += [
            "",
            "The last column is paired over seeds, so over missing tables: mean and 95 % confidence interval.",
        ]
    return "\n".join(lines) + "\n"


def _overall(found: Mapping[str, Any], metric: str) -> list[float | None]:
    return list(found["test"]["overall"][metric])


def _interval(middle: float, half: float) -> str:
    if np.isnan(middle):
        return "-"
    return f"{middle:+.2f}" + ("" if np.isnan(half) else f" ± {half:.2f}")


def _spread(values: Sequence[float | None]) -> str:
    there = [value * _PERCENT for value in values if value is not None]
    if not there:
        return "-"
    return f"{np.mean(there):.2f}" + (f" ± {np.std(there, ddof=1):.2f}" if len(there) > 1 else "")


def _edge(found: Mapping[str, Any]) -> str:
    searched = sorted(map(float, found["searched"]))
    at_edge = len(searched) > 1 and f"{found['learning_rate']:.3g}" in {f"{searched[0]:.3g}", f"{searched[-1]:.3g}"}
    return " (edge)" if at_edge else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
