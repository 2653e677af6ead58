"""Scores in words, for the terminal and the report: percents, their intervals, and a mark for few items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from model_store.describe.manifest_summary import FEW_ITEMS, METRIC_NAMES

FEW_MARK = "*"


def count(items: int) -> str:
    """A number of items, marked if they are few."""
    return f"{items:,}{FEW_MARK if 0 < items < FEW_ITEMS else ''}"


def metric_title(name: str, headline: str | None) -> str:
    """The name of a metric; the headline says what it is for."""
    title = METRIC_NAMES.get(name, name)
    return f"{title} (headline)" if name == headline else title


def shown(name: str, value: float | None, interval: Sequence[float] | None) -> str:
    """A score in percent (a log loss in nats), with its interval in brackets."""
    if value is None:
        return "-"
    if interval is None:
        return _number(name, value)
    low, high = (_number(name, bound) for bound in interval)
    return f"{_number(name, value)} ({low}\u2013{high})"


def _number(name: str, value: float) -> str:
    return f"{value:.3f}" if name == "log_loss" else f"{100 * value:.1f}"


def baseline_names(baselines: Mapping[str, Any]) -> list[str]:
    """The baselines of metrics.json that have a score for each view."""
    return list(baselines.get("names", ("majority", "chance")))


def legend(metrics: dict[str, Any], split: str) -> list[str]:
    """What the table of a split's scores needs to be read, a sentence a line."""
    lines = []
    if metrics.get("intervals"):
        lines.append("in brackets: 95 % intervals (of a share of items Wilson's, of other scores the bootstrap's)")
    if "targets" in metrics:
        lines.append(
            f"recall@k: the share of queries whose target is among the k nearest of {metrics['targets'][split]:,}"
        )
        lines.append("picture, text, sum: the query's frozen features without a trained part; sum: of both modalities")
    elif baselines := metrics.get("baselines"):
        labels = ", ".join(baselines["majority_labels"][:3]) or "no label"
        more = f" and {len(baselines['majority_labels']) - 3} more" if len(baselines["majority_labels"]) > 3 else ""
        lines.append(f"majority: every item is answered with {labels}{more}, as most training items; chance: at random")
    if any(0 < row["items"] < FEW_ITEMS for row in metrics[split].values()):
        lines.append(f"{FEW_MARK} fewer than {FEW_ITEMS} items: one item more or less moves these scores by points")
    return lines
