"""How long /livez takes while something else goes on."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_PAUSE_SECONDS = 0.02
HANG_SECONDS = 30


@contextmanager
def probed(port: int) -> Iterator[list[float]]:
    """Milliseconds of each /livez answered with 200 while the block runs; infinite for one that was not."""
    took_ms: list[float] = []
    stop = threading.Event()

    def probe() -> None:
        while not stop.wait(_PAUSE_SECONDS):
            started = time.perf_counter()
            is_alive = _is_alive(port)
            took_ms.append(1000 * (time.perf_counter() - started) if is_alive else float("inf"))

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield took_ms
    finally:
        stop.set()
        thread.join(2 * HANG_SECONDS)


def _is_alive(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_SECONDS)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
