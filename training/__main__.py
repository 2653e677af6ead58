"""The command `mora-train`, also `python -m training`."""

from __future__ import annotations

import os
import signal
import sys

_OURS = ("model_store", "training")


def main() -> None:
    """Load the commands, then run one. Ctrl-C while they load ends the process without a traceback."""
    interrupt = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        from training.cli import app

        signal.signal(signal.SIGINT, interrupt)
        app()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _OURS:
            raise
        sys.exit(f"error: mora-train needs the extra train (pip install 'mora-serve[train]'); {error}")


if __name__ == "__main__":
    main()
