"""The table of the adapters that `mora: auto` compared, for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.report.scores import metric_title, shown

AUTO_NOTES = (
    "gain: how much lower the calibrated log loss on validation is than that of the best smaller adapter, and the "
    "standard error. An adapter is kept if this is at least 0.001 and more than two standard errors.",
    "frozen layers: the share of the towers' layers whose outputs the trunk cache keeps. shares trunk: whether a "
    "service runs one trunk for this task and for tasks that adapt as many layers as configured.",
)


def auto_headings(auto: Mapping[str, Any]) -> list[str]:
    """The columns' headings, for `auto` of metrics.json."""
    score = f"{metric_title(auto['metric'], None)} (%)"
    return [
        "adapter",
        "from layer",
        "rank",
        "trained",
        score,
        "log loss",
        "gain",
        "seconds",
        "frozen layers",
        "shares trunk",
    ]


def auto_rows(auto: Mapping[str, Any]) -> list[list[str]]:
    """The cells of each adapter, in the order in which they were trained."""
    return [_cells(row, row["name"] == auto["chosen"], auto["metric"]) for row in auto["candidates"]]


def _cells(row: Mapping[str, Any], is_kept: bool, metric: str) -> list[str]:
    first = row["first_layers"]
    trunk = "yes" if row["shares_trunk"] else "no" if any(first.values()) else "embeddings only"
    return [
        f"{row['name']} (kept)" if is_kept else row["name"],
        f"{first['image']} image, {first['text']} text",
        str(row["rank"]),
        f"{row['trainable_parameters']:,}",
        shown(metric, row["score"], None),
        "diverged" if row["log_loss"] is None else f"{row['log_loss']:.4f}",
        _gain(row),
        f"{row['seconds']:.0f}",
        f"{100 * row['frozen_share']:.0f} %",
        trunk,
    ]


def _gain(row: Mapping[str, Any]) -> str:
    if "log_loss_gain" not in row:
        return "-"
    error = row["standard_error"]
    return f"{row['log_loss_gain']:+.4f}" + ("" if error is None else f" ± {error:.4f}")
