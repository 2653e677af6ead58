"""The command `mora-serve`, also `python -m service`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Load the commands, then run one. Ctrl-C while they load ends the process without a traceback.

    SIGHUP and SIGUSR1, which an operator sends to a service, do not end it while it loads.
    """
    if sys.argv[1:2] == ["run"]:
        for name in ("SIGHUP", "SIGUSR1"):
            if hasattr(signal, name):  # Windows has neither
                signal.signal(getattr(signal, name), signal.SIG_IGN)
    interrupt = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from service.cli import app

    signal.signal(signal.SIGINT, interrupt)
    app()


if __name__ == "__main__":
    main()
