"""The report of a run: one HTML file that holds its figures and pictures, without scripts or links to other files."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from model_store import Calibration, Pattern
from model_store.items.pictures import decode
from model_store.label_sets import WATCHED_COVERAGE
from training.data.examples import Example
from training.errors import picture_errors
from training.learning.calibration import Bins
from training.learning.formed_sets import SetScores
from training.report.auto_table import AUTO_NOTES, auto_headings, auto_rows
from training.report.plots import (
    INK,
    PAPER,
    confusion_matrix,
    learning_curves,
    pattern_lines,
    reliability_diagram,
    robustness_curve,
    spectra,
)
from training.report.scores import baseline_names, count, legend, metric_title, shown
from training.report.tower_changes import TowerChange, tower_changes

_MOST_CONFUSED = 10  # pairs of labels
_PICTURE_EDGE = 192  # pixels
_LONGEST_TEXT = 400  # characters of an item's text
_EXAMPLES = re.compile(rb"<!--examples-->.*?<!--end of examples-->", re.DOTALL)  # text of the data has no `<`


@dataclass(frozen=True)
class Mistake:
    """A wrong answer and its item, without the modality that the missing table removes."""

    image: bytes | Path | None
    text: str | None
    true: tuple[str, ...]
    predicted: str
    score: float  # 0..1, after calibration
    pattern: Pattern
    targets: Mapping[str, Example] = field(default_factory=dict)  # of a retrieval task: each with its meaning


@dataclass(frozen=True)
class Report:
    """The content of a report. A section without data has a short sentence, or is left out."""

    task: str
    problem: str
    labels: tuple[str, ...]
    config: dict[str, Any]
    metrics: dict[str, Any]  # metrics.json
    calibration: Mapping[Pattern, Calibration]
    metric: str  # the score that selected the best epoch
    history: Sequence[Mapping[str, float]]  # the Trainer's log
    robustness: Mapping[str, Sequence[tuple[float, float]]]  # missing type -> (ratio, metric)
    confusion: NDArray[np.int64] | None  # (C, C), true label by answer; single-label only
    reliability: Mapping[Pattern, tuple[Bins, Bins]]  # before and after calibration
    set_scores: Mapping[Pattern, Sequence[tuple[float, SetScores]]]  # of label sets, by coverage
    mistakes: Sequence[Mistake]
    analysis: Mapping[str, Any] | None  # analysis.json
    provenance: Mapping[str, str]


def report_html(report: Report) -> str:
    """The page. All text of the data and the configuration is escaped."""
    environment = Environment(
        loader=PackageLoader("training.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    changes = {} if report.analysis is None else tower_changes(report.analysis["weights"])
    environment.filters |= {"value": _value, "picture": _picture}
    environment.globals |= {"shown": shown, "count": count, "metric_title": metric_title, "legend": legend}
    environment.globals["baseline_names"] = baseline_names
    environment.globals |= {"auto_headings": auto_headings, "auto_rows": auto_rows, "auto_notes": AUTO_NOTES}
    return environment.get_template("report.html.jinja").render(
        report=report,
        patterns=list(Pattern),
        figures=_figures(report, changes),
        most_confused=_most_confused(report),
        class_coverage=_class_coverage(report),
        tower_changes=changes,
        watched=round(100 * WATCHED_COVERAGE),
        configuration=yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True),
        longest_text=_LONGEST_TEXT,
    )


def published_report(page: bytes, with_examples: bool) -> bytes | None:
    """A run's page as a version may show it, with or without the items of the test split.

    None for a page of an earlier version, which holds the configuration with its absolute paths.
    """
    if _EXAMPLES.search(page) is None:
        return None
    return page if with_examples else _EXAMPLES.sub(b"", page)


def _figures(report: Report, changes: Mapping[str, TowerChange]) -> dict[str, Markup]:
    """The figures that have data, by name."""
    figures = {}
    if report.history:
        figures["curves"] = learning_curves(report.history, report.metric)
    if any(report.robustness.values()):
        figures["robustness"] = robustness_curve(report.robustness, report.metric)
    figures |= _damage_figures(report.metrics.get("damaged_inputs", {}), report.metric)
    for pattern, (before, after) in report.reliability.items():
        if before.count.any():
            figures[pattern.value] = reliability_diagram(before, after)
    if any(report.set_scores.values()):
        figures |= _set_figures(report.set_scores)
    if changes:
        figures["weight-spectra"] = spectra({tower: each.spectra for tower, each in changes.items()}, "singular value")
    if report.analysis is not None and report.analysis["gram"]:
        figures["gram-spectra"] = _gram_figure(report.analysis["gram"])
    if report.confusion is not None:
        figures["confusion"] = confusion_matrix(report.confusion, report.labels)
    return {name: _inline(name, svg) for name, svg in figures.items()}


def _damage_figures(scores: Mapping[str, Any], metric: str) -> dict[str, str]:
    """The metric by the strength of each kind of damage, of items with the damaged modality only."""
    figures = {}
    for name, pattern in (("damaged-pictures", Pattern.IMAGE), ("damaged-texts", Pattern.TEXT)):
        whole = scores.get("undamaged", {}).get(pattern)
        if whole is not None:
            lines = {
                kind: [(0.0, 100 * whole), *((float(step), 100 * each) for step, each in by_pattern[pattern].items())]
                for kind, by_pattern in scores["damaged"].items()
                if pattern in by_pattern
            }
            figures[name] = pattern_lines(lines, "strength of the damage", f"{metric} (%)")
    return figures


def _set_figures(set_scores: Mapping[Pattern, Sequence[tuple[float, SetScores]]]) -> dict[str, str]:
    """Coverage reached and size of sets by coverage promised; errors by the share of items without review."""
    rows = {pattern.value: scores for pattern, scores in set_scores.items()}
    covered = {name: [(100 * each, 100 * row.covered) for each, row in scores] for name, scores in rows.items()}
    size = {name: [(100 * each, row.size) for each, row in scores] for name, scores in rows.items()}
    risk = {
        name: [(100 * (1 - row.review), 100 * (1 - row.accuracy)) for _, row in scores if row.accuracy is not None]
        for name, scores in rows.items()
    }
    promised, answered = "coverage promised (%)", "items without review (%)"
    return {
        "covered": pattern_lines(covered, promised, "coverage reached (%)", diagonal=True),
        "set-size": pattern_lines(size, promised, "labels in a set"),
        "risk": pattern_lines(risk, answered, "wrong answers of these (%)"),
    }


def _gram_figure(rows: Sequence[Mapping[str, Any]]) -> str:
    """The eigenvalues of the Gram matrices, a line for each layer."""
    towers: dict[str, dict[str, Sequence[float]]] = {}
    for row in rows:
        towers.setdefault(row["tower"], {})[f"layer {row['layer']}"] = row["eigenvalues"]
    return spectra(towers, "eigenvalue")


def _inline(name: str, svg: str) -> Markup:
    """A figure for the page, in the page's colours, with ids that are unique on the page."""
    svg = re.sub(r'\bid="|url\(#|href="#', rf"\g<0>{name}-", svg)
    svg = svg.replace(INK, "var(--ink)").replace(PAPER, "none")
    return Markup(svg)  # noqa: S704 - made by training.report.plots, where matplotlib escapes every label


def _most_confused(report: Report) -> list[tuple[str, str, int, float]]:
    """Rows of true label, answer, items and their share of the true label's items, most frequent first."""
    if report.confusion is None:
        return []
    wrong = report.confusion - np.diag(np.diag(report.confusion))
    of_label = report.confusion.sum(axis=1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSED]
    pairs = [divmod(int(cell), len(report.labels)) for cell in order if wrong.flat[cell] > 0]
    return [
        (report.labels[row], report.labels[column], int(wrong[row, column]), float(wrong[row, column] / of_label[row]))
        for row, column in pairs
    ]


def _class_coverage(report: Report) -> dict[str, dict[str, dict[str, Any]]]:
    """The coverage of each label's items at WATCHED_COVERAGE, by pattern; empty for a multi-label task."""
    rows = {
        pattern: row.get(f"{WATCHED_COVERAGE:g}", {}) for pattern, row in report.metrics.get("coverage", {}).items()
    }
    return {pattern: row["by_class"] for pattern, row in rows.items() if "by_class" in row}


def _value(value: float | None) -> str:
    """A count, or a share in percent."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{100 * value:.2f}"


def _picture(image: bytes | Path) -> str:
    """A small JPEG as a data URI. Raises DataError."""
    file = BytesIO()
    with picture_errors(image):
        small = decode(image)
    small.thumbnail((_PICTURE_EDGE, _PICTURE_EDGE))
    small.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
