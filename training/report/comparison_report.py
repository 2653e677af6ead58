"""A comparison of methods as a table, a plot and JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_store import Pattern
from training.learning.run_folder import write_json
from training.provenance import machine
from training.report.plots import method_plot

OURS = "ours"  # the method of the unchanged configuration
_VIEWS = ("overall", *Pattern)
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # two-sided, 1 to 9 degrees of freedom
_PERCENT = 100


def write_comparison(folder: Path, comparison: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Write comparison.json, comparison.md and comparison.svg; `arguments` are those of the command that compared."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", comparison)
    heading = [f"`mora-train {shlex.join(arguments)}`", "", f"On {machine()}."]
    (folder / "comparison.md").write_text(markdown(comparison, heading), encoding="utf-8")
    metric = comparison["metric"]
    points = {
        name: {view: result["test"][view][metric] for view in _VIEWS} for name, result in comparison["methods"].items()
    }
    (folder / "comparison.svg").write_text(method_plot(points, metric), encoding="utf-8")


def markdown(comparison: Mapping[str, Any], heading: Sequence[str]) -> str:
    """A Markdown table with mean and standard deviation over seeds, and each method's paired distance from `ours`.

    Args:
        comparison: the content of comparison.json.
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
    for name, result in methods.items():
        cells = [
            name,
            f"{result['learning_rate']:.3g}{_edge(result)}",
            f"{result['trainable_parameters']:,}",
            f"{np.mean(result['seconds']):.0f}",
            _spread(result["validation"]),
            *(_spread(result["test"][view][metric]) for view in _VIEWS),
        ]
        if ours is not None:
            lead, half = paired(_overall(ours, metric), _overall(result, metric))
            cells.append("" if name == OURS else _interval(lead * _PERCENT, half * _PERCENT))
        lines.append(_row(cells))
    if ours is not None:
        lines += [
            "",
            "The last column is paired over seeds, so over missing tables: mean and 95 % confidence interval.",
        ]
    return "\n".join(lines) + "\n"


def paired(first: Sequence[float | None], second: Sequence[float | None]) -> tuple[float, float]:
    """Mean of `first - second` over the same seeds, and half its 95 % confidence interval (Student's t).

    NaN where a score is missing, and the interval of a single seed.
    """
    differences = np.subtract(np.array(first, dtype=float), np.array(second, dtype=float))
    if len(differences) < 2:
        return float(differences.mean()), float("nan")
    error = differences.std(ddof=1) / len(differences) ** 0.5
    return float(differences.mean()), float(_T95[min(len(differences) - 1, len(_T95)) - 1] * error)


def _overall(result: Mapping[str, Any], metric: str) -> list[float | None]:
    return list(result["test"]["overall"][metric])


def _interval(middle: float, half: float) -> str:
    if np.isnan(middle):
        return "-"
    return f"{middle:+.2f}" + ("" if np.isnan(half) else f" ± {half:.2f}")


def _spread(values: Sequence[float | None]) -> str:
    percents = [value * _PERCENT for value in values if value is not None]
    if not percents:
        return "-"
    return f"{np.mean(percents):.2f}" + (f" ± {np.std(percents, ddof=1):.2f}" if len(percents) > 1 else "")


def _edge(result: Mapping[str, Any]) -> str:
    searched = sorted(map(float, result["searched"]))
    at_edge = len(searched) > 1 and f"{result['learning_rate']:.3g}" in {f"{searched[0]:.3g}", f"{searched[-1]:.3g}"}
    return " (edge)" if at_edge else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
