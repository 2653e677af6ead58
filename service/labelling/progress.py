"""Counts of labelled rows, and their progress: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from model_store.items.rows import Row

_SECONDS_BETWEEN_LINES = 10.0
_SHOWN_FAILURES = 20


@dataclass
class RowCounts:
    """The number of rows, the failed rows by their error code, and the errors of the first failed rows."""

    rows: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """The number of failed rows."""
        return self.errors.total()

    def add(self, rows: Sequence[Row], names: Sequence[str] = ()) -> int:
        """Count the next rows of answers, which may have names; returns how many of them have failed."""
        failed = [(index, row) for index, row in enumerate(rows) if row["error"] is not None]
        for index, row in failed[: _SHOWN_FAILURES - len(self.messages)]:
            name = f" ({names[index]})" if names else ""
            self.messages.append(f"row {self.rows + index + 1:,}{name}: {row['error']}: {row['detail']}")
        self.errors.update(row["error"] for _, row in failed)
        self.rows += len(rows)
        return len(failed)

    def summary(self, output: object) -> str:
        """The counts in a sentence."""
        return f"{self.rows:,} rows in {output}, {self.failed:,} of them without an answer"

    def failures(self) -> list[str]:
        """A line for each of the first failed rows, and one with the number of the other failed rows."""
        more = self.failed - len(self.messages)
        return [*self.messages, f"and {more:,} more"] if more else self.messages


class RowProgress(Progress):
    """The rows that are done, their rate, the failed rows, and the time left."""

    def __init__(self, rows: int, console: Console) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TextColumn("{task.fields[rate]}"))
        remaining = TimeRemainingColumn(elapsed_when_finished=True)
        super().__init__(*columns, remaining, console=console, disable=not console.is_terminal)
        self._total, self._done, self._failed = rows, 0, 0
        self._bar = self.add_task("", total=rows, rate="starting")
        self._started = self._last_line = monotonic()

    def add(self, rows: int, failed: int) -> None:
        """Count more rows as done; `failed` of them have no answer."""
        self._done += rows
        self._failed += failed
        self.advance(self._bar, rows)
        speed = self.tasks[0].speed
        rate = f"{speed:,.0f}/s" if speed else ""
        self.update(self._bar, rate=f"{rate} {self._failed:,} failed" if self._failed else rate)
        if self.disable and monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = monotonic()
            self._print_line(self._done / (self._last_line - self._started))

    def _print_line(self, rate: float) -> None:
        left = timedelta(seconds=round((self._total - self._done) / rate))
        line = f"{self._done:,} of {self._total:,} rows, {rate:,.0f}/s, {self._failed:,} failed, {left} left"
        self.console.print(line, soft_wrap=True, highlight=False)
