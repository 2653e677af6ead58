"""Programs that run in a session of their own, so that their processes are stopped with them."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress


def stop_session(process: subprocess.Popen[str] | subprocess.Popen[bytes], by: signal.Signals, seconds: float) -> None:
    """Send a signal to the program's session, and kill what is left of it after some seconds."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, by)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
