"""A service as a process, with the tasks `fruit` and `tags`, which accepts only requests with the key CANARY."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from model_store import Store
from service.web.keys import key_line
from tests.support.tiny import Shelf

CANARY = "canary-key-0123456789"


class ClosedService(NamedTuple):
    """The address, log, store and key of a running service."""

    url: str
    log: Path
    store: Path
    key_file: Path  # with CANARY


@contextmanager
def closed_service(folder: Path) -> Iterator[ClosedService]:
    shelf = Shelf(Store(folder / "store"))
    shelf.publish("fruit")
    shelf.publish("tags")
    (folder / "keys").write_text(key_line("shop", CANARY))
    (folder / "key").write_text(CANARY)
    command = [sys.executable, "-m", "service.cli", "run", "--port", "0", "--store", str(shelf.store.root)]
    command += ["--log-format", "json", "--api-keys-file", str(folder / "keys")]
    log = folder / "log"
    with log.open("wb") as file, subprocess.Popen(command, stderr=file) as process:
        try:
            while not (listening := re.search(r'"url": ?"([^"]+)"', log.read_text())):
                assert process.poll() is None, log.read_text()
            yield ClosedService(listening[1], log, shelf.store.root, folder / "key")
        finally:
            process.kill()
