"""The tables that `mora-train fit` prints for --search and for --folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from training.learning.trials import Found

_SHOWN = ("items", "accuracy", "exact_match", "macro_f1", "macro_f1_calibrated", "auroc", "ece_calibrated")  # of folds


def print_trials(console: Console, found: Found) -> None:
    """Print the configurations that were tried, with their scores on the validation split."""
    fields, seconds = [*found.best.values], sum(trial.seconds for trial in found.trials)
    end = "no neighbour of the best is better" if found.is_complete else "the time is up"
    shares = [name for name in ("accuracy", "exact_match") if name in (found.best.scores or {})]
    metrics = list(dict.fromkeys([found.metric, *shares, "log_loss"]))
    table = Table(
        "trial",
        *(Column(name.rpartition(".")[2], justify="right") for name in [*fields, *metrics, "seconds"]),
        "",
        title=f"validation scores of {len(found.trials)} trials in {seconds / 60:.1f} minutes; {end}",
    )
    for number, trial in enumerate(found.trials, start=1):
        scores = trial.scores or {}
        note = "diverged" if trial.selection is None else "best" if trial is found.best else ""
        cells = [*(f"{trial.values[field]:g}" for field in fields), *(_score(scores.get(name)) for name in metrics)]
        table.add_row(str(number), *cells, f"{trial.seconds:.0f}", note)
    console.print(table)


def print_folds(console: Console, scores: Mapping[str, Mapping[str, Sequence[float | None]]], folds: int) -> None:
    """Print the mean of each test score over the folds, and its standard deviation."""
    columns = [name for name in _SHOWN if name in scores["overall"]]
    title = f"test of {folds} folds in percent: mean ± standard deviation"
    table = Table("items present", *(Column(name, justify="right") for name in columns), title=title)
    for view, of_view in scores.items():
        table.add_row(view, *(_items(of_view[name]) if name == "items" else _spread(of_view[name]) for name in columns))
    console.print(table)


def _items(values: Sequence[float | None]) -> str:
    return f"{sum(value or 0 for value in values):.0f}"


def _spread(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{np.mean(known):.1f}"
    return f"{mean} ± {np.std(known, ddof=1):.1f}" if len(known) > 1 else mean


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
