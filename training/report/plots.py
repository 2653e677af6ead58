"""Figures as SVG text. Equal data gives equal bytes.

The figures are dark on light. A page with other colours replaces `INK` and `PAPER` by its own.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from io import StringIO

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from model_store import Pattern
from training.learning.calibration import Bins
from training.learning.cross_scenario import Grid

VIEWS = ("overall", *(pattern.value for pattern in Pattern))  # of the test split
INK, PAPER = "#1b1f24", "#fefefe"  # no other part of a figure has these two colours
_COLORS = ("#0072b2", "#d55e00", "#009e73")  # of Okabe and Ito: distinct for the colour-blind, on light and on dark
_MARKERS = ("o", "s", "^")
_FAINT = "#8a8f98"
_STYLE = {
    **{f"{part}color": INK for part in ("text.", "axes.label", "axes.edge", "xtick.", "ytick.")},
    **{f"axes.spines.{side}": False for side in ("top", "right")},
    "axes.facecolor": "none",
    "figure.constrained_layout.use": True,
    "figure.facecolor": PAPER,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "svg.fonttype": "none",  # letters stay text, which screen readers and searches find
    "svg.hashsalt": "mora",
    "text.parse_math": False,  # a label may hold dollar signs
}
_PERCENT = 100
_MOST_COUNTS, _MOST_NAMES = 30, 60  # classes up to which a confusion matrix shows every count and every name
_LONGEST_NAME = 24  # characters


@contextmanager
def _style() -> Iterator[None]:
    """Draw in this module's style instead of matplotlibrc's, without warnings of characters that the font lacks."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


@_style()
def learning_curves(history: Sequence[Mapping[str, float]], metric: str) -> str:
    """Loss of training and validation, and the validation metric with its best epoch, from the Trainer's log."""

    def points_of(key: str, unit: float = 1.0) -> list[tuple[float, float]]:
        return [(entry["epoch"], unit * entry[key]) for entry in history if math.isfinite(entry.get(key, math.nan))]

    figure = Figure(figsize=(8, 2.8))
    losses, scores = figure.subplots(1, 2)
    _line(losses, points_of("loss"), "training", 0)
    _line(losses, points_of("eval_loss"), "validation", 1)
    points = points_of(f"eval_{metric}", _PERCENT)
    _line(scores, points, "validation", 1)
    if points:
        selection = dict(points_of("eval_selection")) or dict(points)
        best, value = max(points, key=lambda point: selection.get(point[0], -math.inf))
        label = f"best: {value:.2f} % after epoch {best:g}"
        scores.plot(best, value, "o", markersize=10, markerfacecolor="none", markeredgecolor=INK, label=label)
    losses.set(xlabel="epoch", ylabel="loss (nats)")
    scores.set(xlabel="epoch", ylabel=f"{metric} (%)")
    for axes in (losses, scores):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _explain(axes)
    return _svg(figure, f"Loss and {metric} by epoch")


@_style()
def reliability_diagram(before: Bins, after: Bins) -> str:
    """Accuracy of answers by their confidence, before and after calibration, and the share of answers in each bin."""
    figure = Figure(figsize=(3.6, 4.4))
    axes, shares = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    axes.plot([0, _PERCENT], [0, _PERCENT], color=_FAINT, linestyle="--", linewidth=1)
    for number, (bins, name) in enumerate([(after, "after"), (before, "before")]):
        filled = bins.count > 0
        points = zip(_PERCENT * bins.confidence[filled], _PERCENT * bins.accuracy[filled], strict=True)
        _line(axes, list(points), f"{name}: mean gap {_PERCENT * bins.expected_error:.1f} %", number)
        of_all = _PERCENT * np.append(bins.count[:-2], bins.count[-2:].sum()) / max(int(bins.count.sum()), 1)
        shares.stairs(of_all, np.linspace(0, _PERCENT, len(of_all) + 1), color=_COLORS[number])
    axes.set(ylabel="right answers (%)", xlim=(0, _PERCENT), ylim=(0, _PERCENT), aspect="equal")
    shares.set(xlabel="confidence (%)", ylabel="answers (%)")
    _explain(axes)
    return _svg(figure, "Right answers by confidence, before and after calibration")


@_style()
def robustness_curve(curves: Mapping[str, Sequence[tuple[float, float]]], metric: str) -> str:
    """The metric by the share of incomplete items, one line for each missing type."""
    figure = Figure(figsize=(5.5, 3.2))
    axes = figure.subplots()
    for number, (kind, points) in enumerate(curves.items()):
        name = "image or text missing" if kind == "both" else f"{kind} missing"
        _line(axes, [(_PERCENT * ratio, _PERCENT * value) for ratio, value in points], name, number)
    axes.set(xlabel="incomplete items (%)", ylabel=f"{metric} (%)", xlim=(-2, _PERCENT + 2))
    axes.grid(axis="y", color=_FAINT, linewidth=0.3)
    _explain(axes)
    return _svg(figure, f"{metric} by share of incomplete items")


@_style()
def pattern_lines(
    curves: Mapping[str, Sequence[tuple[float, float]]], xlabel: str, ylabel: str, diagonal: bool = False
) -> str:
    """A line for each presence pattern; with `diagonal`, the dashed line on which both values are equal."""
    figure = Figure(figsize=(3.6, 3.4))
    axes = figure.subplots()
    for number, (pattern, points) in enumerate(curves.items()):
        _line(axes, points, pattern, number)
    if diagonal:
        axes.axline((0, 0), slope=1, color=_FAINT, linestyle="--", linewidth=1)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(axis="y", color=_FAINT, linewidth=0.3)
    _explain(axes)
    return _svg(figure, f"{ylabel} by {xlabel}")


@_style()
def spectra(panels: Mapping[str, Mapping[str, Sequence[float]]], ylabel: str) -> str:
    """A panel for each tower, with a line for each spectrum: its values, largest first, on a logarithmic axis.

    Values below a millionth of the panel's largest are not drawn: they are zero but for rounding.
    """
    figure = Figure(figsize=(4.0 * len(panels), 3.2))
    subplots = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axes, (tower, lines) in zip(subplots, panels.items(), strict=True):
        least = 1e-6 * max(max(values) for values in lines.values())
        colors = _COLORS if len(lines) <= len(_COLORS) else mpl.colormaps["viridis"](np.linspace(0, 0.9, len(lines)))
        for (name, values), color in zip(lines.items(), colors, strict=False):
            drawn = [value for value in values if value > least]
            if drawn:
                axes.plot(range(1, len(drawn) + 1), drawn, color=color, label=name)
        axes.set(title=f"{tower} tower", xlabel="number", ylabel=ylabel, yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=_FAINT, linewidth=0.3)
        _explain(axes)
    return _svg(figure, f"Each {ylabel}, largest first")


@_style()
def confusion_matrix(counts: NDArray[np.int64], labels: Sequence[str]) -> str:
    """Counts (C, C) of answers (columns) by true label (rows). A colour shows the share of the row."""
    classes = len(labels)
    shares = _PERCENT * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    edge = min(max(2.2, 0.3 * classes), 8.0)  # inches, of the cells alone
    figure = Figure(figsize=(edge + 2.4, edge + 1.6))
    axes = figure.subplots()
    size = min(8.0, 72 * edge / classes / (0.7 * len(f"{counts.max()}")))  # points; DejaVu's digits are 0.64 wide
    written = [[f"{count}" if count else "" for count in row] for row in counts] if classes <= _MOST_COUNTS else []
    _cells(axes, shares, (labels, labels), written, 0.0, _PERCENT, size)
    axes.set(xlabel="answer", ylabel="true label", aspect="equal")
    figure.colorbar(axes.images[0], label="share of the row (%)", shrink=0.6)
    return _svg(figure, "Answers by true label")


@_style()
def heat_map(grid: Grid) -> str:
    """A cross-scenario grid: a row for each run, a column for each test setting."""
    scores = _PERCENT * np.array(grid.scores, dtype=float)  # NaN where undefined
    defined = scores[~np.isnan(scores)].tolist() or [0.0]
    figure = Figure(figsize=(2.6 + 0.6 * len(grid.tested_on), 1.5 + 0.4 * len(grid.trained_on)))
    axes = figure.subplots()
    written = [["undefined" if np.isnan(score) else f"{score:.1f}" for score in row] for row in scores]
    _cells(axes, scores, (grid.trained_on, grid.tested_on), written, min(defined), max(defined))
    axes.set(xlabel="missing in the test split", ylabel="missing in training", aspect="auto")
    figure.colorbar(axes.images[0], label=f"{grid.metric} (%)")
    return _svg(figure, f"{grid.metric} by missing modality in training and in the test split")


@_style()
def method_plot(points: Mapping[str, Mapping[str, Sequence[float | None]]], metric: str) -> str:
    """Mean (dot) and range (line) of each method over seeds in each view; `points`: method -> view -> scores."""
    figure = Figure(figsize=(9.5, 1.0 + 0.3 * max(len(points), 1)))
    panels = figure.subplots(1, len(VIEWS), sharey=True)
    for axes, view in zip(panels, VIEWS, strict=True):
        color = _COLORS[0 if view == "overall" else 1]
        for row, scores_of in enumerate(points.values()):
            scores = [_PERCENT * score for score in scores_of.get(view, ()) if score is not None]
            if scores:
                axes.plot([min(scores), max(scores)], [row, row], color=color)
                axes.plot(np.mean(scores), row, "o", color=color)
        axes.set(title=view, xlabel=f"{metric} (%)")
        axes.set_yticks(range(len(points)), [_short(name) for name in points])
        axes.grid(color=_FAINT, linewidth=0.3)
        axes.margins(x=0.15)
    panels[0].set(ylabel="method", ylim=(max(len(points), 1) - 0.5, -0.5))
    return _svg(figure, f"{metric} of each method on the test split")


def _cells(
    axes: Axes,
    values: NDArray[np.float64],
    names: tuple[Sequence[str], Sequence[str]],
    written: Sequence[Sequence[str]],
    low: float,
    high: float,
    size: float = 8.0,
) -> None:
    """A table as colours, with names of rows and columns, and in each cell a text of `size` points."""
    axes.imshow(values, cmap="Blues", vmin=low, vmax=high if high > low else low + 1, interpolation="nearest")
    for set_ticks, side, rotation in ((axes.set_yticks, names[0], 0), (axes.set_xticks, names[1], 90)):
        shown = range(0, len(side), math.ceil(len(side) / _MOST_NAMES))
        set_ticks(shown, [_short(side[number]) for number in shown], fontsize=8, rotation=rotation)
    for row, texts in enumerate(written):
        for column, text in enumerate(texts):
            color = "#ffffff" if values[row, column] > low + 0.6 * (high - low) else "#000000"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)


def _line(axes: Axes, points: Sequence[tuple[float, float]], name: str, number: int) -> None:
    if points:
        axes.plot(*zip(*points, strict=True), color=_COLORS[number], marker=_MARKERS[number], label=name)


def _explain(axes: Axes) -> None:
    """Draw a legend, or write `nothing recorded` if no line was drawn."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    else:
        axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, ha="center", va="bottom")


def _short(name: str) -> str:
    """The name cut to one short line, with a space for each character that XML forbids."""
    name = "".join(character if character.isprintable() else " " for character in name)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "\u2026"


def _svg(figure: Figure, title: str) -> str:
    file = StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue()
    opening, rest = text[text.index("<svg") + len("<svg") :].split(">", 1)
    return f'<svg role="img"{opening}>\n <title>{escape(title)}</title>{rest}'
