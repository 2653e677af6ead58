"""The command `mora-store`, also `python -m model_store`."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Load the commands, then run one. Ctrl-C while they load ends the process without a traceback."""
    interrupt = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from model_store.cli import app

    signal.signal(signal.SIGINT, interrupt)
    app()


if __name__ == "__main__":
    main()
