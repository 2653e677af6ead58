"""How far the labelling of many rows is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 10.0


class RowProgress:
    """Rows done of so many, how fast, how many of them failed, and how long the others will take."""

    def __init__(self, rows: int, console: Console) -> None:
        self._rows, self._console = rows, console
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TextColumn("{task.fields[rate]}"))
        remaining = TimeRemainingColumn(elapsed_when_finished=True)
        self._bar = Progress(*columns, remaining, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=rows, rate="starting")
        self._done = self._failed = 0
        self._started = self._spoken = monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, rows: int, failed: int) -> None:
        """So many more are done, so many of them without an answer."""
        self._done += rows
        self._failed += failed
        self._bar.advance(self._task, rows)
        speed = self._bar.tasks[0].speed
        rate = f"{speed:,.0f}/s" if speed else ""
        self._bar.update(self._task, rate=f"{rate} {self._failed:,} failed" if self._failed else rate)
        if not self._console.is_terminal and monotonic() - self._spoken >= _SECONDS_BETWEEN_LINES:
            self._spoken = monotonic()
            self._console.print(self._line(), soft_wrap=True, highlight=False)

    def _line(self) -> str:
        rate = self._done / (monotonic() - self._started)
        left = _duration((self._rows - self._done) / rate) if rate else "?"
        return f"{self._done:,} of {self._rows:,} rows, {rate:,.0f}/s, {self._failed:,} failed, {left} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
