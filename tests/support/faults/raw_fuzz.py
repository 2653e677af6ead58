"""Malformed requests on raw sockets, pipelined for speed; the same ones for the same seed.

A round on one connection is a pipeline of requests with valid framing and invalid content, which must all be answered,
and then one with damaged framing. An HTTP parser decides what this one gets: an answer to each whole request, a refusal
of malformed bytes, and nothing for an incomplete request.

By hand: `python -m tests.support.faults.raw_fuzz PORT --seed 1 --requests 100000`, which needs a service on that port.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httptools

from tests.support.faults.malformed import Reading, badly_framed, well_framed
from tests.support.faults.mutation import dice

PIPELINED = 12
CONNECTIONS = 8
FOUND = Path(__file__).parents[3] / "build" / "faults"  # where bytes that did harm are kept
_MOST_PROBLEMS = 10


@dataclass
class Outcome:
    """What became of the requests."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)  # each names the bytes that were kept
    slowest_seconds: float = 0.0  # between one sign of life and the next, of a connection that was owed an answer

    def __str__(self) -> str:
        statuses = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        return f"{self.sent} sent; {statuses}; slowest {1000 * self.slowest_seconds:.0f} ms"


class _Connection(asyncio.Protocol):
    """One socket; collects the statuses of answers."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.is_closed = False
        self.changed = asyncio.Event()
        self.transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.statuses.append(self._parser.get_status_code())  # an upgrade, or bytes behind the last answer
            self.transport.abort()
        self.changed.set()

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self.statuses.append(self._parser.get_status_code())

    def connection_lost(self, _: Exception | None) -> None:
        self.is_closed = True
        self.changed.set()


class _Attack:
    def __init__(self, port: int, seed: int, hang_seconds: float) -> None:
        self.outcome = Outcome()
        self._port, self._seed, self._hang_seconds = port, seed, hang_seconds

    async def rounds(self, number: int, count: int) -> None:
        """`count` rounds of connection `number`."""
        for round_number in range(count):
            if len(self.outcome.problems) >= _MOST_PROBLEMS:
                return
            random = dice(self._seed, number, round_number)
            pipeline = b"".join(well_framed(random) for _ in range(PIPELINED))
            last = badly_framed(random)
            name = f"{self._seed}-{number}-{round_number}"
            try:
                connection = await self._connect()
            except OSError as error:
                self._note(f"the service takes no connection: {error}", name, b"")
                return
            try:
                await self._exchange(connection, pipeline, PIPELINED, f"{name}-whole")
                if not connection.is_closed:
                    self.outcome.sent += 1
                    await self._exchange(connection, last, Reading(last).answers, f"{name}-raw")
            finally:
                connection.transport.abort()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        return connection

    async def _exchange(self, connection: _Connection, data: bytes, owed: int, name: str) -> None:
        """Send and wait for what is owed; a server may hang up once it has answered or what it reads is no HTTP."""
        before = len(connection.statuses)
        connection.transport.write(data)
        while len(connection.statuses) - before < owed and not connection.is_closed:
            connection.changed.clear()
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self._hang_seconds):
                    await connection.changed.wait()
            except TimeoutError:
                self._note(f"no answer within {self._hang_seconds} s", name, data)
                return
            finally:
                self.outcome.slowest_seconds = max(self.outcome.slowest_seconds, time.perf_counter() - started)
        statuses = connection.statuses[before:]
        self.outcome.sent += len(statuses) if name.endswith("whole") else 0
        self.outcome.statuses.update(statuses)
        if wrong := [status for status in statuses if status >= 500]:
            self._note(f"answered {wrong}", name, data)
        if name.endswith("whole") and not statuses:
            self._note("hung up without an answer", name, data)

    def _note(self, problem: str, name: str, data: bytes) -> None:
        FOUND.mkdir(parents=True, exist_ok=True)
        (FOUND / f"{name}.bin").write_bytes(data)
        self.outcome.problems.append(f"seed {self._seed}: {problem}; the bytes are in {FOUND / name}.bin")


def fuzz(port: int, seed: int, requests: int, hang_seconds: float = 1.0) -> Outcome:
    """Send at least so many requests to a service of tiny tasks `fruit` and `tags`."""

    async def run() -> Outcome:
        attack = _Attack(port, seed, hang_seconds)
        number = 0
        while attack.outcome.sent < requests and len(attack.outcome.problems) < _MOST_PROBLEMS:
            left = -(-(requests - attack.outcome.sent) // (CONNECTIONS * (PIPELINED + 1)))
            await asyncio.gather(*(attack.rounds(number + place, left) for place in range(CONNECTIONS)))
            number += CONNECTIONS  # further rounds in place of requests that a closed connection never took
        return attack.outcome

    return asyncio.run(run())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Send malformed requests to a service on this machine.")
    parser.add_argument("port", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--requests", type=int, default=100_000)
    arguments = parser.parse_args()
    found = fuzz(arguments.port, arguments.seed, arguments.requests)
    sys.stdout.write("\n".join([str(found), *found.problems]) + "\n")
    sys.exit(bool(found.problems))
