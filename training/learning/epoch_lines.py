"""One line for each epoch of training, and a progress bar below them on a terminal."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerState

_SELECTION = "eval_selection"


class EpochLines(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Prints training loss, validation scores and seconds of each epoch, and marks the best epoch so far.

    Args:
        headline: the score of `evaluation.score` that is printed.
    """

    def __init__(self, headline: str, console: Console) -> None:
        self._headline = headline
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("step {task.completed} of {task.total}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._steps = self._progress.add_task("steps", total=None)

    def on_train_begin(self, _: Any, state: TrainerState, *__: Any, **___: Any) -> None:  # noqa: ANN401
        if state.is_world_process_zero:
            self._progress.update(self._steps, total=state.max_steps, completed=state.global_step)
            self._progress.start()

    def on_step_end(self, _: Any, state: TrainerState, *__: Any, **___: Any) -> None:  # noqa: ANN401
        self._progress.update(self._steps, completed=state.global_step)

    def on_evaluate(self, _: Any, state: TrainerState, *__: Any, **___: Any) -> None:  # noqa: ANN401
        if state.is_world_process_zero:
            self._print(self._epoch_line(state))

    def on_train_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        self._progress.stop()

    def print_kept(self, state: TrainerState) -> None:
        """Print which epoch is kept."""
        epochs = [entry for entry in state.log_history if _SELECTION in entry]
        if state.is_world_process_zero and epochs:
            kept = max(epochs, key=lambda entry: float(entry[_SELECTION]))
            self._print(f"kept: epoch {kept['epoch']:.0f}, {self._scores(kept)}")

    def _epoch_line(self, state: TrainerState) -> str:
        *earlier, evaluated = state.log_history
        losses = [entry["loss"] for entry in earlier if "loss" in entry]
        best = max((entry[_SELECTION] for entry in earlier if _SELECTION in entry), default=-math.inf)
        started = next((entry["seconds"] for entry in reversed(earlier) if _SELECTION in entry), 0.0)
        loss = f"training loss {losses[-1]:.4g}, " if losses else ""
        mark = ", best so far" if evaluated.get(_SELECTION, -math.inf) > best else ""
        seconds = f"{evaluated['seconds'] - started:.1f} s"
        epoch, epochs = f"{evaluated['epoch']:.0f}", f"{state.num_train_epochs}"
        return f"epoch {epoch:>{len(epochs)}} of {epochs}: {loss}{self._scores(evaluated)}, {seconds}{mark}"

    def _scores(self, entry: dict[str, float]) -> str:
        score = entry.get(f"eval_{self._headline}")
        shown = "undefined" if score is None else f"{100 * score:.2f} %"
        return f"validation loss {entry['eval_loss']:.4g}, {self._headline} {shown}"

    def _print(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
