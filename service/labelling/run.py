"""Every row of a source labelled and written, so many at a time, as `mora-serve classify INPUT` does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from rich.console import Console

from model_store.atomic_file import atomic_file
from service.errors import ServiceError
from service.labelling.answerers import Answerer
from service.labelling.progress import RowProgress
from service.labelling.rows import DataSetError, Limits, answer_row, check_kept, choose_columns
from service.labelling.sources import Columns, Source
from service.labelling.writers import open_writer

_ROWS_AT_ONCE = 128  # in memory, with their pictures
_SHOWN_FAILURES = 20


@dataclass
class Outcome:
    """What became of the rows."""

    rows: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)  # the first of them, each in a line

    def told(self) -> list[str]:
        """The first rows that have no answer, and how many more there are."""
        more = self.failed - len(self.failures)
        return [*self.failures, f"and {more:,} more"] if more else self.failures

    def add(self, answers: Sequence[object], names: Sequence[str]) -> int:
        """Count the next rows; returns how many of them failed. `names` says which they are, where they have names."""
        before = self.failed
        for place, answer in enumerate(answers):
            if isinstance(answer, ServiceError):
                self.failed += 1
                if len(self.failures) < _SHOWN_FAILURES:
                    which = f"row {self.rows + place + 1:,}" + (f" ({names[place]})" if names else "")
                    self.failures.append(f"{which}: {answer.code}: {answer.detail}")
        self.rows += len(answers)
        return self.failed - before


@dataclass(frozen=True)
class Run:
    """What is to be done."""

    source: Source
    columns: Columns
    limits: Limits
    output: Path | None  # standard output without one
    top_k: int

    def label(self, answerer: Callable[[], Answerer], console: Console) -> Outcome:
        """Write an answer for every row, to a file that is there when it is whole, or to standard output.

        Raises:
            ClientError, DataSetError, StoreError, RefusedError: the work cannot be done, or not to its end.
        """
        outcome = Outcome()
        kind = ".jsonl" if self.output is None else self.output.suffix.lower()
        if self.output is None and sys.stdout.isatty():
            console = Console(stderr=True, quiet=True)  # a bar amid the rows would help nobody
        with (
            _opened(self.output) as file,
            RowProgress(self.source.rows, console) as progress,
            answerer() as asked,
        ):
            writer = open_writer(file, kind, self.source, self.columns)
            for chunk in self.source.chunks(self.columns, self.limits, _ROWS_AT_ONCE):
                answers = asked.label(chunk.items)
                writer.write(chunk.kept, [answer_row(answer, self.top_k) for answer in answers])
                progress.advance(len(answers), outcome.add(answers, chunk.names))
            writer.close()
        return outcome


def columns_of(
    source: Source, image: str | None, text: str | None, keep: Sequence[str] | None, output: Path | None
) -> Columns:
    """The columns asked for, else those there are; what csv and JSON cannot hold is left out. Raises DataSetError."""
    found_image, found_text = choose_columns(source.names, image, text)
    source.check_types(found_image, found_text)
    binary = [] if output is not None and output.suffix.lower() == ".parquet" else source.binary
    if keep is None:
        keep = [name for name in source.names if name not in binary]
    check_kept(source.names, keep)
    if unfit := [name for name in keep if name in binary]:
        raise DataSetError(f"the column {unfit[0]} holds bytes; write .parquet, or leave it out of --keep")
    return Columns(found_image, found_text, tuple(keep))


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
    else:
        with atomic_file(output) as file:
            yield file
