"""SIGHUP and SIGUSR1: what an operator asks of the running process. Neither ends it."""

from __future__ import annotations

import asyncio
import signal

from service.telemetry.log_lines import call_on_log_thread
from service.telemetry.stacks import log_stacks

_NAMES = ("SIGHUP", "SIGUSR1")  # which Windows does not have


class OperatorSignals:
    """SIGHUP asks for another reading of keys and store, SIGUSR1 for the stacks of all threads in the log.

    The thread that writes the log also collects the stacks, because a signal handler must not log and the event loop
    may stand still.

    Attributes:
        loop: the event loop whose tasks are logged too.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._wants_reading = False
        self._logs_stacks = False
        for name, handler in zip(_NAMES, (self.ask_for_reading, self.ask_for_stacks), strict=True):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda *_, handler=handler: handler())

    def ask_for_reading(self) -> None:
        """What SIGHUP does."""
        self._wants_reading = True

    def ask_for_stacks(self) -> None:
        """What SIGUSR1 does."""
        if not self._logs_stacks:  # several signals at once get one answer
            self._logs_stacks = True
            call_on_log_thread(self._log_stacks)

    def take_reading(self) -> bool:
        """Whether SIGHUP has come since the last call."""
        if not self._wants_reading:
            return False
        self._wants_reading = False  # a signal that comes from here on asks again
        return True

    def _log_stacks(self) -> None:
        self._logs_stacks = False
        log_stacks(self.loop)


def ignore_operator_signals() -> None:
    """Have SIGHUP and SIGUSR1 do nothing. By default they end a process."""
    for name in _NAMES:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
