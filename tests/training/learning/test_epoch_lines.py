"""Training prints one line for each epoch, marks the best, and draws a bar on a terminal only."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import TrainerState

from training.config import TaskConfig
from training.data.splits import load_data
from training.learning.epoch_lines import EpochLines
from training.pipeline.fit import fit

Make = Callable[..., TaskConfig]


def lines_of(selections: list[float | None], headline: str = "accuracy", main: bool = True, **console: Any) -> str:
    """The output of a training whose epochs have these selection scores."""
    file = StringIO()
    lines = EpochLines(headline, Console(file=file, width=100, **console))
    state = TrainerState(max_steps=12, num_train_epochs=len(selections), is_world_process_zero=main)
    lines.on_train_begin(None, state, None)
    for number, selection in enumerate(selections, start=1):
        state.global_step = number
        lines.on_step_end(None, state, None)
        state.log_history.append({"epoch": float(number), "loss": 1 / number, "seconds": 2.0 * number})
        scores = {} if selection is None else {"eval_selection": selection, "eval_accuracy": selection}
        state.log_history.append({"epoch": float(number), "eval_loss": 0.5, "seconds": 2.0 * number + 0.25, **scores})
        lines.on_evaluate(None, state, None)
    lines.on_train_end()
    lines.print_kept(state)
    return file.getvalue()


@pytest.mark.parametrize(
    ("selections", "best", "kept"),
    [([0.5, 0.75, 0.7], [1, 2], 2), ([0.5, 0.5], [1], 1), ([-3.0, -2.0, -1.0], [1, 2, 3], 3)],
)
def test_each_epoch_is_one_line_and_the_best_so_far_is_marked(
    selections: list[float | None], best: list[int], kept: int
) -> None:
    *epochs, last = lines_of(selections).splitlines()

    assert [number for number, line in enumerate(epochs, start=1) if line.endswith(", best so far")] == best
    assert [line.split(":")[0] for line in epochs] == [f"epoch {n} of {len(epochs)}" for n in range(1, len(epochs) + 1)]
    assert last.startswith(f"kept: epoch {kept}, validation loss 0.5, accuracy ")


def test_a_line_has_losses_headline_and_the_seconds_of_its_epoch() -> None:
    assert lines_of([0.5, 0.75]).splitlines()[1] == (
        "epoch 2 of 2: training loss 0.5, validation loss 0.5, accuracy 75.00 %, 2.0 s, best so far"
    )
    assert "auroc undefined" in lines_of([0.5], "auroc")
    assert "accuracy undefined" in lines_of([None])


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_is_for_terminals(terminal: bool) -> None:
    output = lines_of([0.5, 0.75], force_terminal=terminal)

    assert ("of 12" in output) is terminal
    assert ("\x1b" in output) is terminal
    assert output.count("epoch ") == 3


def test_other_processes_print_nothing() -> None:
    assert lines_of([0.5, 0.75], main=False) == ""


def test_fit_prints_no_dictionaries(make_config: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = make_config(train={"epochs": 2, "batch_size": 8})

    fit(config, load_data(config), tmp_path / "run", lambda _: None)

    output = "".join(capfd.readouterr())
    assert output.count("\nepoch ") == 2
    assert output.count("\nkept: epoch ") == 1
    assert "{" not in output
    assert "it/s" not in output
