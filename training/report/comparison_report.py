"""A comparison of methods as a table, a plot and JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.learning.compared_methods import OURS, YARDSTICKS
from training.learning.run_folder import write_json
from training.provenance import machine
from training.report.plots import VIEWS, method_plot

_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # two-sided, 1 to 9 degrees of freedom
_PERCENT = 100
_MARK = "†"  # short: the table must fit a terminal
_YARDSTICKS = (
    f"{_MARK} A yardstick needs no backbone: `majority` answers with the shares of the labels in train, `tfidf` reads "
    "the text, `hog` the picture. C is the inverse strength of its regularisation."
)

_PAIRED = "The last column is paired over seeds, so over missing tables: mean and 95 % confidence interval."
_PARTITIONED = (
    "The last column is paired over partitions and seeds. Its 95 % confidence interval is over the partitions, each of "
    "which is the mean of its seeds."
)


def write_comparison(folder: Path, comparison: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Write comparison.json, comparison.md and comparison.svg. `arguments` are those of the `mora-train` command."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", comparison)
    heading = [f"`mora-train {shlex.join(arguments)}`", "", f"On {machine()}."]
    (folder / "comparison.md").write_text(markdown(comparison, heading), encoding="utf-8")
    metric, methods = comparison["metric"], comparison["methods"]
    points = {
        f"{name} (yardstick)" if name in YARDSTICKS else name: {view: result["test"][view][metric] for view in VIEWS}
        for name, result in methods.items()
    }
    (folder / "comparison.svg").write_text(method_plot(points, metric), encoding="utf-8")


def markdown(comparison: Mapping[str, Any], heading: Sequence[str]) -> str:
    """comparison.json as a Markdown table below a heading: scores over seeds, and the paired lead of `ours`."""
    metric, methods, count = comparison["metric"], comparison["methods"], _partition_count(comparison)
    columns, notes = ["method", "learning rate", "trained", "seconds", "validation", *VIEWS], []
    if any(name in YARDSTICKS for name in methods):
        notes = ["", _YARDSTICKS]
    ours = methods.get(OURS)
    if ours is not None:
        columns.append(f"{OURS} leads by")
        notes += ["", _PARTITIONED if "partitions" in comparison else _PAIRED]
    lines = [*heading, "", _caption(comparison), "", _row(columns), _row(["---", *["---:"] * (len(columns) - 1)])]
    for name, result in methods.items():
        cells = [_marked(name), _searched(result), *_scores(result, metric)]
        if ours is not None:
            lead, half = paired(ours["test"]["overall"][metric], result["test"]["overall"][metric], count)
            cells.append("" if name == OURS else _interval(lead * _PERCENT, half * _PERCENT))
        lines.append(_row(cells))
    return "\n".join([*lines, *notes]) + "\n"


def write_backbones(folder: Path, compared: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Write backbones.json, .md and .svg. `compared`: the content of a comparison.json by backbone."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "backbones.json", compared)
    heading = [f"`mora-train {shlex.join(arguments)}`", "", f"On {machine()}."]
    (folder / "backbones.md").write_text(backbones_markdown(compared, heading), encoding="utf-8")
    metric = next(iter(compared.values()))["metric"]
    points = {
        f"{method}, {Path(backbone).name}": {view: result["test"][view][metric] for view in VIEWS}
        for backbone, comparison in compared.items()
        for method, result in comparison["methods"].items()
    }
    (folder / "backbones.svg").write_text(method_plot(points, metric), encoding="utf-8")


def backbones_markdown(compared: Mapping[str, Mapping[str, Any]], heading: Sequence[str]) -> str:
    """Backbones as a Markdown table below a heading: each method's scores, and its lead over the first backbone."""
    (first, baseline), *_ = compared.items()
    metric, count = baseline["metric"], _partition_count(baseline)
    columns = ["backbone", "method", "trained", "seconds", "validation", *VIEWS, "over the first"]
    rule = _row(["---", "---", *["---:"] * (len(columns) - 2)])
    lines = [*heading, "", _caption(baseline), "", _row(columns), rule]
    for backbone, comparison in compared.items():
        for method, result in comparison["methods"].items():
            of_first = baseline["methods"][method]["test"]["overall"][metric]
            lead = paired(result["test"]["overall"][metric], of_first, count)
            last = "" if backbone == first else _interval(*(each * _PERCENT for each in lead))
            lines.append(_row([backbone, _marked(method), *_scores(result, metric), last]))
    yardsticks = ["", _YARDSTICKS] if any(name in YARDSTICKS for name in baseline["methods"]) else []
    return "\n".join([*lines, *yardsticks, "", _PARTITIONED if "partitions" in baseline else _PAIRED]) + "\n"


def _partition_count(comparison: Mapping[str, Any]) -> int | None:
    return len(comparison["partitions"]) if "partitions" in comparison else None


def _caption(comparison: Mapping[str, Any]) -> str:
    over = " of ".join(
        f"{name} {', '.join(map(str, comparison[name]))}" for name in ("seeds", "partitions") if name in comparison
    )
    return f"{comparison['metric']} in percent on the test split, mean ± standard deviation over {over}."


def paired(
    first: Sequence[float | None], second: Sequence[float | None], partitions: int | None = None
) -> tuple[float, float]:
    """Mean of `first - second` over the same runs, and half its 95 % confidence interval (Student's t).

    The interval is over the seeds. With `partitions`, whose number it is, it is over them: runs of one partition share
    their items, so they are not independent, and count as their mean. NaN where a score is missing, and the interval
    of a single seed or partition.
    """
    differences = np.array(first, dtype=float) - np.array(second, dtype=float)
    if partitions is not None:
        differences = differences.reshape(partitions, -1).mean(axis=1)
    if len(differences) < 2:
        return float(differences.mean()), float("nan")
    error = differences.std(ddof=1) / len(differences) ** 0.5
    return float(differences.mean()), float(_T95[min(len(differences) - 1, len(_T95)) - 1] * error)


def _marked(name: str) -> str:
    return f"{name}{_MARK}" if name in YARDSTICKS else name


def _scores(result: Mapping[str, Any], metric: str) -> list[str]:
    """The cells `trained`, `seconds`, `validation` and a score for each view of the test split."""
    return [
        _number(result["trainable_parameters"]),
        f"{np.mean(result['seconds']):.0f}",
        _spread(result["validation"]),
        *(_spread(result["test"][view][metric]) for view in VIEWS),
    ]


def _interval(middle: float, half: float) -> str:
    if np.isnan(middle):
        return "-"
    return f"{middle:+.2f}" + ("" if np.isnan(half) else f" ± {half:.2f}")


def _spread(values: Sequence[float | None]) -> str:
    percents = [value * _PERCENT for value in values if value is not None]
    if not percents:
        return "-"
    return f"{np.mean(percents):.2f}" + (f" ± {np.std(percents, ddof=1):.2f}" if len(percents) > 1 else "")


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _searched(result: Mapping[str, Any]) -> str:
    """The learning rate, or C of a yardstick, and whether it is at an edge of those that were tried."""
    rate, strength = result["learning_rate"], result.get("strength")
    if rate is None and strength is None:
        return "-"
    value, tried = f"{strength if rate is None else rate:.3g}", list(result["searched"])  # in order
    edge = " (edge)" if value in tried[:1] + tried[-1:] else ""
    return f"{'C ' if rate is None else ''}{value}{edge}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
