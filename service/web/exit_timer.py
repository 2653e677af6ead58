"""The end of the process at a deadline, whatever its other threads do."""

from __future__ import annotations

import os
import threading
import time
from queue import SimpleQueue


class ExitTimer:
    """Ends the process with status 0 at a deadline, even if the event loop or another thread never ends.

    Its thread runs from the beginning: a signal handler cannot start one safely, and later there may be a shortage of
    threads.
    """

    def __init__(self) -> None:
        self._deadlines: SimpleQueue[float] = SimpleQueue()  # which a signal handler may use
        threading.Thread(target=self._end, name="mora-exit", daemon=True).start()

    def arm(self, seconds: float) -> None:
        """End the process after so many seconds. Safe in a signal handler; later calls have no effect."""
        self._deadlines.put(time.monotonic() + seconds)

    def _end(self) -> None:
        deadline = self._deadlines.get()
        time.sleep(max(0.0, deadline - time.monotonic()))
        os._exit(0)
