"""Counts of labelled rows, and the progress: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from model_store.items.rows import Row

_SECONDS_BETWEEN_LINES = 10.0
_SHOWN_FAILURES = 20


@dataclass
class RowCounts:
    """Rows, rows without an answer by their error code, and the reasons of the first of them."""

    rows: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Rows without an answer."""
        return self.errors.total()

    def add(self, rows: Sequence[Row], names: Sequence[str] = ()) -> int:
        """Count the next rows of answers, which may have names; returns how many of them have no answer."""
        failed = [(index, row) for index, row in enumerate(rows) if row["error"] is not None]
        for index, row in failed[: _SHOWN_FAILURES - len(self.reasons)]:
            name = f" ({names[index]})" if names else ""
            self.reasons.append(f"row {self.rows + index + 1:,}{name}: {row['error']}: {row['detail']}")
        self.errors.update(row["error"] for _, row in failed)
        self.rows += len(rows)
        return len(failed)

    def summary(self, output: object) -> str:
        """The counts in a sentence."""
        return f"{self.rows:,} rows in {output}, {self.failed:,} of them without an answer"

    def failures(self) -> list[str]:
        """The first rows without an answer and the number of the others, each a line."""
        more = self.failed - len(self.reasons)
        return [*self.reasons, f"and {more:,} more"] if more else self.reasons


class RowProgress:
    """Rows done, their rate, failed rows, and the time left."""

    def __init__(self, rows: int, console: Console) -> None:
        self._rows, self._console = rows, console
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TextColumn("{task.fields[rate]}"))
        remaining = TimeRemainingColumn(elapsed_when_finished=True)
        self._bar = Progress(*columns, remaining, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=rows, rate="starting")
        self._done = self._failed = 0
        self._started = self._last_line = monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, rows: int, failed: int) -> None:
        """Count more rows as done, some of them without an answer."""
        self._done += rows
        self._failed += failed
        self._bar.advance(self._task, rows)
        speed = self._bar.tasks[0].speed
        rate = f"{speed:,.0f}/s" if speed else ""
        self._bar.update(self._task, rate=f"{rate} {self._failed:,} failed" if self._failed else rate)
        if not self._console.is_terminal and monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = monotonic()
            self._console.print(self._line(), soft_wrap=True, highlight=False)

    def _line(self) -> str:
        rate = self._done / (monotonic() - self._started)
        left = _duration((self._rows - self._done) / rate) if rate else "?"
        return f"{self._done:,} of {self._rows:,} rows, {rate:,.0f}/s, {self._failed:,} failed, {left} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
