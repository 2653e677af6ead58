"""The three plots of the results page, as SVG text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.goals import Figures, capacity

_COLORS = {"authors": "#8a8f98", "litserve": "#d55e00", "fp32": "#0072b2", "int8": "#009e73", "fp16": "#cc79a7"}
_COLORS |= {"torch": "#e69f00", "bf16": "#56b4e9", "auto": "#332288"}
_STYLE = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "mora",
}


def throughput_plot(figures: Figures) -> str:
    """Bars of items a second, with a line for the bare runtime of each precision."""
    with _figure(2.4) as (axes, svg):
        systems = _systems(figures)[::-1]
        rates = [capacity({"it": found}, "it") or 0.0 for _, _, found in systems]
        bars = axes.barh([name for name, _, _ in systems], rates, color=[color for _, color, _ in systems])
        axes.bar_label(bars, [f"{rate:.1f}" for rate in rates], padding=3)
        for precision, found in figures.get("limit", {}).items():
            label = f"bare runtime {precision}: {found['per_second']:.1f}"
            axes.axvline(found["per_second"], color=_COLORS[precision], linestyle="--", label=label)
        axes.set(xlabel="items of the mix a second, closed loop", xlim=(0, None))
        axes.margins(x=0.12)
        _legend(axes)
    return svg.getvalue()


def latency_plot(figures: Figures) -> str:
    """Median and 90th percentile of latency against the offered load (open loop)."""
    with _figure(3.4) as (axes, svg):
        for name, color, found in _systems(figures):
            for quantile, line in (("p50_ms", "-"), ("p90_ms", ":")):
                points = [(load["offered_per_second"], load[quantile]) for load in found["sweep"] if load[quantile]]
                label = f"{name}, {'median' if quantile == 'p50_ms' else '90th percentile'}"
                axes.plot(*zip(*points, strict=True), line, marker="o", markersize=3, color=color, label=label)
        axes.set(xlabel="offered items of the mix a second, open loop (Poisson)", ylabel="latency (ms)")
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("{x:g}")
        _legend(axes)
    return svg.getvalue()


def tasks_plot(figures: Figures) -> str:
    """Time of one image against the number of tasks, compared with a separate request for each task."""
    with _figure(2.6) as (axes, svg):
        points = [(int(count), load["p50_ms"]) for count, load in figures.get("tasks", {}).items()]
        if points:
            counts, times = zip(*points, strict=True)
            axes.plot(counts, times, "o-", color=_COLORS["fp32"], label="one request for all tasks (fp32)")
            apart = [count * times[0] / counts[0] for count in counts]
            axes.plot(
                counts, apart, "--", color=_COLORS["authors"], label="for comparison: one task, times their number"
            )
            axes.set(xlabel="tasks on one image", ylabel="median latency (ms)", ylim=(0, None), xticks=counts)
            _legend(axes)
    return svg.getvalue()


def _systems(figures: Figures) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Name, colour and figures of each server that was measured."""
    rivals = (("authors' way", "authors"), ("LitServe fp32", "litserve"), ("PyTorch bf16 behind LitServe", "torch"))
    found = [(name, _COLORS[key], figures[key]) for name, key in rivals if key in figures]
    return found + [(f"ours {p}", _COLORS[p], measured) for p, measured in figures.get("ours", {}).items()]


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


@contextmanager
def _figure(height: float) -> Iterator[tuple[Axes, StringIO]]:
    """Axes to draw on, and a buffer that holds the SVG afterwards."""
    svg = StringIO()
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, height), layout="constrained")
        yield figure.subplots(), svg
        figure.savefig(svg, format="svg", metadata={"Date": None})
