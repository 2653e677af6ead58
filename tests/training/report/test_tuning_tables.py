"""The tables of a search and of a cross-validation."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from training.config import TaskConfig
from training.learning.trials import Found, Trial, best_trial
from training.report.tuning_tables import print_folds, print_trials


def printed(draw) -> str:
    file = StringIO()
    draw(Console(file=file, width=200))
    return file.getvalue()


def trial(rate: float, selection: float | None) -> Trial:
    scores = None if selection is None else {"accuracy": selection, "log_loss": 0.25}
    return Trial({"train.learning_rate": rate, "mora.rank": 4}, scores, selection, 30.0)


@pytest.mark.parametrize(
    ("selections", "place"), [([0.5, 0.75, 0.7], 1), ([0.5, None, 0.5], 0), ([None, None, 0.1], 2), ([-3.0, -2.0], 1)]
)
def test_the_best_trial_is_marked_and_those_that_diverged_too(selections: list[float | None], place: int) -> None:
    trials = [trial(0.01 * (number + 1), selection) for number, selection in enumerate(selections)]
    config = TaskConfig(task="a", problem="single_label", backbone="none", data={"train": "a.csv"})

    text = printed(lambda console: print_trials(console, Found(trials, config, "accuracy", is_complete=False)))

    assert best_trial(trials) is trials[place]
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert [line.split("│")[-2].strip() for line in rows] == [
        "diverged" if selection is None else "best" if number == place else ""
        for number, selection in enumerate(selections)
    ]
    assert f"{len(trials)} trials in {len(trials) / 2:.1f} minutes; the time is up" in text
    assert "learning_rate" in text
    assert "0.01" in rows[0]


@pytest.mark.parametrize(
    ("values", "cell"),
    [
        ([0.5, 0.7, 0.9], "70.0 ± 20.0"),
        ([0.5, None, 0.7], "60.0 ± 14.1"),
        ([None, 0.5], "50.0"),
        ([None], "-"),
    ],
)
def test_folds_are_a_mean_and_its_spread_over_those_where_the_score_is_defined(values, cell) -> None:
    scores = {view: {"items": [4] * len(values), "auroc": values} for view in ("overall", "text")}

    text = printed(lambda console: print_folds(console, scores, len(values)))

    assert text.count(f" {cell} ") == 2
    assert text.count(f" {4 * len(values)} ") == 2


@pytest.mark.parametrize("share", ["accuracy", "exact_match"])
def test_the_share_of_right_answers_is_shown_by_the_name_that_the_problem_gives_it(share: str) -> None:
    config = TaskConfig(task="a", problem="multi_label", backbone="none", data={"train": "a.csv"})
    tried = Trial({"train.learning_rate": 0.01}, {"macro_f1": 0.5, share: 0.4321}, 0.5, 30.0)
    folds = {"overall": {"items": [4, 4], share: [0.25, 0.35]}}

    trials = printed(lambda console: print_trials(console, Found([tried], config, "macro_f1", is_complete=True)))
    spread = printed(lambda console: print_folds(console, folds, 2))

    assert share in trials
    assert "0.4321" in trials
    assert share in spread
    assert "30.0 ± 7.1" in spread
