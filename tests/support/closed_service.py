"""A service as a process on tiny tasks, which accepts only requests with the key CANARY."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from model_store import Pattern, Store
from model_store.label_sets import Quantiles
from service.web.keys import key_line
from tests.support.tiny import Shelf, label_sets

CANARY = "canary-key-0123456789"


class ClosedService(NamedTuple):
    """The address, log, store and key of a running service."""

    url: str
    log: Path
    store: Path
    key_file: Path  # with CANARY

    def options(self, place: str) -> list[str | Path]:
        """Options of a command that name its `store`, or else the service."""
        if place == "store":
            return ["--store", self.store]
        return ["--url", self.url, "--api-key-file", self.key_file]


def publish_both(shelf: Shelf) -> None:
    """`fruit` and `tags`."""
    shelf.publish("fruit")
    shelf.publish("tags")


def publish_label_sets(shelf: Shelf) -> None:
    """`fruit` supports coverages up to 0.99, `tags` up to 0.8 and of texts alone, `older` none."""
    shelf.publish_with_label_sets("fruit")
    low = {Pattern.TEXT: Quantiles(items=4, values=label_sets().by_pattern[Pattern.TEXT].values[:301])}
    shelf.publish_with_label_sets("tags", by_pattern=low, expected={})
    shelf.publish_draft(shelf.draft("fruit").replacing(task="older"))


@contextmanager
def closed_service(folder: Path, publish: Callable[[Shelf], None] = publish_both) -> Iterator[ClosedService]:
    shelf = Shelf(Store(folder / "store"))
    publish(shelf)
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
