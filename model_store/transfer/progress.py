"""How many bytes a transfer has to move and has moved: counted, or shown as a bar on a terminal."""

from __future__ import annotations

from threading import Lock

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn


class TransferCount:
    """The bytes that a transfer moves. Several threads count at once."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self.moved_bytes = 0
        self._lock = Lock()

    def expect(self, total_bytes: int) -> None:
        """Begin a transfer of so many bytes."""
        self.total_bytes, self.moved_bytes = total_bytes, 0

    def add(self, count: int) -> None:
        """Count further bytes as moved."""
        with self._lock:
            self.moved_bytes += count


class TransferBar(TransferCount):
    """A bar with the bytes, their rate and the time left. It is shown on a terminal only."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self.bar.add_task("", total=None)

    def expect(self, total_bytes: int) -> None:
        """Begin a transfer of so many bytes, and show it."""
        super().expect(total_bytes)
        self.bar.reset(self._task, total=total_bytes)

    def add(self, count: int) -> None:
        """Count further bytes as moved, and show them."""
        super().add(count)
        self.bar.update(self._task, completed=min(self.moved_bytes, self.total_bytes))
