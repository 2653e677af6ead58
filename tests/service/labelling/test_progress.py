"""Progress as a bar on a terminal and as lines in a log."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

import service.labelling.progress
from service.labelling.progress import RowProgress


def test_a_log_gets_a_line_every_ten_seconds(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(service.labelling.progress, "monotonic", lambda: clock[0])
    file = StringIO()
    with RowProgress(100_000, Console(file=file)) as progress:
        for _ in range(8):
            clock[0] += 3.0
            progress.add(1000, 1)

    assert file.getvalue().splitlines() == [
        "4,000 of 100,000 rows, 333/s, 4 failed, 0:04:48 left",
        "8,000 of 100,000 rows, 333/s, 8 failed, 0:04:36 left",
    ]


def test_a_terminal_gets_a_bar():
    file = StringIO()
    with RowProgress(10, Console(file=file, force_terminal=True, width=100)) as progress:
        progress.add(4, 0)
        progress.add(6, 2)

    assert "10/10" in file.getvalue()
    assert "2 failed" in file.getvalue()
    assert "of 10 rows" not in file.getvalue()
