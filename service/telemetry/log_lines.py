"""Log lines on their way to standard error, through a bounded queue, so that logging never blocks."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue

import structlog

MAX_LINES = 4096
_STDERR = 2  # its file descriptor
_CLOSING_SECONDS = 1.0
_log = structlog.get_logger()


class LogLines(logging.Handler):
    """Formats records where they are logged, and has a thread of its own write the lines to standard error.

    Whoever reads standard error may stop reading (a pipe, a terminal, a full disk); then a write blocks or fails. Up to
    MAX_LINES lines wait; further lines are dropped and counted. `log_lines_dropped` says so once the rest is written.
    """

    def __init__(self) -> None:
        super().__init__()
        self._refused = 0  # for lack of room
        self._failed = 0  # to be written
        # Nothing that interrupts a thread within it can deadlock: a destructor that logs, a signal handler.
        self._lines: SimpleQueue[bytes | Callable[[], None] | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write_lines, name="mora-log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
        except Exception:  # logging's own handling would print, which may block
            line = b""
        if line and self._lines.qsize() < MAX_LINES:
            self._lines.put(line)
        else:
            self._refused += 1

    @property
    def dropped(self) -> int:
        """Number of lines that were not written."""
        return self._refused + self._failed

    def call(self, job: Callable[[], None]) -> None:
        """Have the thread call a function, which may log. Safe in a signal handler."""
        self._lines.put(job)

    def close(self) -> None:
        """Write the lines that wait, if that takes no longer than a second. Later lines are not written."""
        self._lines.put(None)
        self._writer.join(_CLOSING_SECONDS)
        super().close()

    def _write_lines(self) -> None:
        reported = 0
        while (line := self._lines.get()) is not None:
            if not isinstance(line, bytes):
                try:
                    line()
                except Exception:
                    _log.exception("call_failed")
                continue
            try:
                _write(line)
            except OSError:  # nobody reads the pipe any more, the disk is full
                self._failed += 1
                continue
            if (dropped := self.dropped) > reported and self._lines.empty():
                _log.warning("log_lines_dropped", lines=dropped - reported)
                reported = dropped


def _write(line: bytes) -> None:
    """Write to the file descriptor, because a lock of sys.stderr that is held at exit would end the process badly."""
    if sys.__stderr__ is None:  # closed at start: the number may belong to another file by now
        raise OSError("standard error is closed")
    while line:
        try:
            line = line[os.write(_STDERR, line) :]
        except BlockingIOError:  # whoever shares the pipe may have made it non-blocking
            select.select([], [_STDERR], [])


def dropped_lines() -> int:
    """Log lines of this process that were dropped."""
    return sum(handler.dropped for handler in _handlers())


def call_on_log_thread(job: Callable[[], None]) -> None:
    """Have the thread that writes the log call a function. Safe in a signal handler."""
    for handler in _handlers():
        handler.call(job)


def _handlers() -> list[LogLines]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, LogLines)]
