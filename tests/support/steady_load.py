"""Clients that send requests without pause, to count failures during a change."""

from __future__ import annotations

import http.client
import json
import threading

from tests.support.waiting import wait_until


class SteadyLoad:
    """`POST /classify` on loopback from so many clients, each on a connection that is kept open; none asks twice."""

    def __init__(self, port: int, item: dict[str, str], clients: int) -> None:
        self.answered = 0
        self.errors: list[str] = []
        self.versions: set[int] = set()
        self._port = port
        self._body = json.dumps(item)
        self._ends = threading.Event()
        self._counting = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> SteadyLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, answers: int = 20) -> bool:
        """Whether more than so many others are answered."""
        seen = self.answered
        return wait_until(lambda: self.answered > seen + answers)

    def _ask(self) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._ends.is_set():
            error, versions = None, set()
            try:
                client.request("POST", "/classify", self._body, {"Content-Type": "application/json"})
                response = client.getresponse()
                said = response.read()
                if response.status == 200:
                    versions = {json.loads(said)["version"]}
                else:
                    error = f"{response.status} {said[:200]!r}"
            except (OSError, http.client.HTTPException) as failure:
                error = type(failure).__name__
                client.close()
            with self._counting:
                self.answered += error is None
                self.errors += [] if error is None else [error]
                self.versions |= versions
        client.close()
