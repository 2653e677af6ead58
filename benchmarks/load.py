"""Load on one server: closed loop (so many at once) and open loop (arrivals that wait for nobody)."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle

import aiohttp
import numpy as np

TIMEOUT_SECONDS = 60.0
OK, REFUSED = "200", "503"


class MeasurementError(Exception):
    """A figure that cannot be trusted; the message says why."""


@dataclass(frozen=True)
class Load:
    """What one measurement saw.

    `latencies_ms` has one entry a request, infinite for one that was not answered with 200: a refusal must not make the
    tail look shorter.
    """

    seconds: float  # from the first request to the last answer
    latencies_ms: tuple[float, ...]
    statuses: dict[str, int]  # HTTP status, or what went wrong in its place
    offered_per_second: float | None = None  # open loop only
    refusals_ms: tuple[float, ...] = ()  # how long those waited that were refused

    @property
    def per_second(self) -> float:
        """Answered requests a second."""
        return self.statuses.get(OK, 0) / self.seconds

    def percentile(self, share: float) -> float:
        """Latency in milliseconds that this share of the requests did not exceed."""
        return percentile(self.latencies_ms, share)

    def check(self, name: str) -> None:
        """Raise MeasurementError for any failed request, except that open loop may outrun a server, which refuses."""
        allowed = {OK} if self.offered_per_second is None else {OK, REFUSED}
        wrong = {status: count for status, count in self.statuses.items() if status not in allowed}
        if wrong or not self.statuses.get(OK):
            raise MeasurementError(f"{name}: answers were {self.statuses}, where only 200 is right")

    def as_json(self) -> dict[str, object]:
        """The figures that are kept; null where requests that were not answered decide."""
        quantiles = {f"p{round(100 * share)}_ms": self.percentile(share) for share in (0.5, 0.9, 0.99)}
        return {
            "offered_per_second": None if self.offered_per_second is None else round(self.offered_per_second, 2),
            "per_second": round(self.per_second, 2),
            **{name: round(value, 2) if math.isfinite(value) else None for name, value in quantiles.items()},
            "requests": len(self.latencies_ms),
            "statuses": self.statuses,
        }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank); NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def closed_loop(url: str, bodies: Sequence[bytes], concurrency: int, seconds: float) -> Load:
    """Keep `concurrency` requests under way for so long: each is sent when the one before is answered."""

    async def run(recorder: _Recorder) -> None:
        todo, deadline = cycle(bodies), time.perf_counter() + seconds

        async def one_after_another() -> None:
            while (now := time.perf_counter()) < deadline:
                await recorder.send(next(todo), intended=now)

        await asyncio.gather(*(one_after_another() for _ in range(concurrency)))

    return asyncio.run(_measure(url, run, None))


def open_loop(url: str, bodies: Sequence[bytes], per_second: float, seconds: float, seed: int = 0) -> Load:
    """Poisson arrivals, the same for the same seed.

    A latency counts from when the request was meant to be sent, however late it was really sent: who waits in front of
    a slow server waits all the same (no coordinated omission).
    """

    async def run(recorder: _Recorder) -> None:
        start, under_way = time.perf_counter(), []
        for offset, body in zip(arrivals(per_second, seconds, seed), cycle(bodies), strict=False):
            await asyncio.sleep(start + offset - time.perf_counter())
            under_way.append(asyncio.create_task(recorder.send(body, intended=start + offset)))
        await asyncio.gather(*under_way)

    return asyncio.run(_measure(url, run, per_second))


def arrivals(per_second: float, seconds: float, seed: int) -> Iterator[float]:
    """Seconds from the start at which requests arrive: gaps are exponential, at least one request arrives."""
    rng, offset = np.random.default_rng(seed), 0.0
    while True:
        yield offset
        offset += float(rng.exponential(1 / per_second))
        if offset >= seconds:
            return


class _Recorder:
    """Sends requests and keeps what became of them."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self.latencies_ms: list[float] = []
        self.refusals_ms: list[float] = []
        self.statuses: Counter[str] = Counter()

    async def send(self, body: bytes, intended: float) -> None:
        status = "timeout"
        with suppress(TimeoutError):
            try:
                async with self._session.post(self._url, data=body) as response:
                    await response.read()
                    status = str(response.status)
            except aiohttp.ClientError as error:
                status = type(error).__name__
        took_ms = 1000 * (time.perf_counter() - intended)
        self.latencies_ms.append(took_ms if status == OK else math.inf)
        if status == REFUSED:
            self.refusals_ms.append(took_ms)
        self.statuses[status] += 1


async def _measure(url: str, run: Callable[[_Recorder], Awaitable[None]], offered: float | None) -> Load:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout, headers=headers
    ) as session:
        recorder, start = _Recorder(session, url), time.perf_counter()
        await run(recorder)
        seconds = time.perf_counter() - start
    return Load(seconds, tuple(recorder.latencies_ms), dict(recorder.statuses), offered, tuple(recorder.refusals_ms))
