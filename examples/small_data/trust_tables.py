"""The tables of `make trust` in docs/method.md."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_store import Pattern, Problem
from training.learning.calibration import reliability
from training.provenance import machine

BEGIN, END = "<!-- written by make trust -->", "<!-- end of make trust -->"
DRAWS = 50
FEW_SPLITS = 3


class NoMarkersError(Exception):
    """A page has no lines to write the tables between."""


def by_chance(logits: Tensor) -> float | None:
    """The expected error of confidence of answers whose confidence is right: their labels are drawn from the scores.

    It is not 0, because a bin of few items has an accuracy that differs from its confidence by chance.

    Args:
        logits: (n, C), calibrated. None without items.
    """
    if not len(logits):
        return None
    rng = torch.Generator().manual_seed(0)
    draws = logits.double().softmax(dim=-1).multinomial(DRAWS, replacement=True, generator=rng)  # (n, DRAWS)
    errors = [reliability(logits, draw, Problem.SINGLE_LABEL).expected_error for draw in draws.T]
    return round(float(np.mean(errors)), 6)


def tables(results: Sequence[dict[str, Any]]) -> str:
    """Both tables, with the machine and the versions."""
    heading = f"`make trust`, `data.seed` from 0 on. On {machine()}, scikit-learn {version('scikit-learn')}."
    return "\n".join([heading, "", *accuracies(results), "", *confidences(results)])


def accuracies(results: Sequence[dict[str, Any]]) -> list[str]:
    """One row for each set, over its splits, and one for the mean of the sets."""
    lines = [
        "| set | rows | labels | logistic regression | probe | `fit` | difference | in splits 0 to 2 | adapter kept |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    means, variances, firsts = [], [], []
    for name in dict.fromkeys(result["set"] for result in results):
        own = [result for result in results if result["set"] == name]
        means.append([float(np.mean([result[column] for result in own])) for column in ("regression", "probe", "fit")])
        variances.append(sum(map(variance, own)) / len(own) ** 2)
        first = [result for result in own if result["seed"] < FEW_SPLITS]
        firsts.append(100 * float(np.mean([result["fit"] - result["regression"] for result in first])))
        kept = sum(result["result"] != "the linear probe" for result in own)
        cells = f"{own[0]['rows']:,} | {own[0]['labels']} | {_scores(means[-1], variances[-1])}"
        lines.append(f"| `{name}` | {cells} | {firsts[-1]:+.1f} | {kept} of {len(own)} |")
    mean = [float(value) for value in np.mean(means, axis=0)]
    lines.append(f"| mean | | | {_scores(mean, sum(variances) / len(variances) ** 2)} | {np.mean(firsts):+.1f} | |")
    return lines


def variance(result: dict[str, Any]) -> float:
    """Of the difference of two accuracies on the same test items, from the items that only one of them has right."""
    fit, regression, items = (result[name] for name in ("only_fit", "only_regression", "test_items"))
    return float(fit + regression - (fit - regression) ** 2 / items) / items**2


def confidences(results: Sequence[dict[str, Any]]) -> list[str]:
    """One row for each pattern, over the runs that have test items with it."""
    lines = [
        "| items have | runs | error falls or stays | before | after | by chance alone |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for pattern in Pattern:
        runs = [result["confidence"][pattern.value] for result in results]
        runs = [run for run in runs if run["before"] is not None]
        not_worse = sum(run["after"] <= run["before"] for run in runs)
        values = " | ".join(f"{np.mean([run[name] for run in runs]):.3f}" for name in ("before", "after", "by_chance"))
        lines.append(f"| {pattern.value} | {len(runs)} | {not_worse / len(runs):.0%} | {values} |")
    return lines


def page_with(page: str, content: str) -> str:
    """The page with this content between its markers. Raises NoMarkersError."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NoMarkersError(f"the page has no lines `{BEGIN}` and `{END}` to write the tables between")
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def _scores(accuracies: Sequence[float], variance: float) -> str:
    """Cells of the accuracies, and of the lead of `fit` over logistic regression with its 95 % interval."""
    regression, _, fit = accuracies
    lead, half = 100 * (fit - regression), 196 * variance**0.5
    return " | ".join([*(f"{100 * value:.1f}" for value in accuracies), f"{lead:+.1f} ± {half:.1f}"])
