"""Load on one server: closed loop (a fixed number of requests at once) and open loop (arrivals at scheduled times)."""

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
    """A figure is not reliable; the message says why."""


@dataclass(frozen=True)
class Load:
    """The result of one measurement.

    `latencies_ms` has one entry for each request. It is infinite unless the status was 200, because refusals must not
    shorten the tail.
    """

    seconds: float  # from the first request to the last answer
    latencies_ms: tuple[float, ...]
    statuses: dict[str, int]  # HTTP status, or the error if there was none
    offered_per_second: float | None = None  # open loop only
    refusals_ms: tuple[float, ...] = ()  # times until a refusal

    @property
    def per_second(self) -> float:
        """Answered requests a second."""
        return self.statuses.get(OK, 0) / self.seconds

    def percentile(self, share: float) -> float:
        """The latency that this share of the requests did not exceed, in milliseconds."""
        return percentile(self.latencies_ms, share)

    def check(self, name: str) -> None:
        """Raise MeasurementError for any failed request, except refusals (503) in open loop."""
        allowed = {OK} if self.offered_per_second is None else {OK, REFUSED}
        wrong = {status: count for status, count in self.statuses.items() if status not in allowed}
        if wrong or not self.statuses.get(OK):
            raise MeasurementError(f"{name}: answers were {self.statuses}, but only 200 is allowed")

    def as_json(self) -> dict[str, object]:
        """The figures for the results; null if the percentile is an unanswered request."""
        quantiles = {f"p{round(100 * share)}_ms": self.percentile(share) for share in (0.5, 0.9, 0.99)}
        return {
            "offered_per_second": None if self.offered_per_second is None else round(self.offered_per_second, 2),
            "per_second": round(self.per_second, 2),
            **{name: round(value, 2) if math.isfinite(value) else None for name, value in quantiles.items()},
            "requests": len(self.latencies_ms),
            "statuses": self.statuses,
        }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank); NaN without values."""
    if not values:
        return math.nan
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def closed_loop(url: str, bodies: Sequence[bytes], concurrency: int, seconds: float) -> Load:
    """Keep `concurrency` requests in flight for so long: each is sent when its predecessor is answered."""

    async def run(recorder: _Recorder) -> None:
        todo, deadline = cycle(bodies), time.perf_counter() + seconds

        async def one_after_another() -> None:
            while (now := time.perf_counter()) < deadline:
                await recorder.send(next(todo), intended=now)

        await asyncio.gather(*(one_after_another() for _ in range(concurrency)))

    return asyncio.run(_measure(url, run, None))


def open_loop(url: str, bodies: Sequence[bytes], per_second: float, seconds: float, seed: int = 0) -> Load:
    """Poisson arrivals, the same for the same seed.

    A latency counts from the scheduled time of the request, even if it was sent later, so that it includes the wait for
    a slow server (no coordinated omission).
    """

    async def run(recorder: _Recorder) -> None:
        start, under_way = time.perf_counter(), []
        for offset, body in zip(arrivals(per_second, seconds, seed), cycle(bodies), strict=False):
            await asyncio.sleep(start + offset - time.perf_counter())
            under_way.append(asyncio.create_task(recorder.send(body, intended=start + offset)))
        await asyncio.gather(*under_way)

    return asyncio.run(_measure(url, run, per_second))


def arrivals(per_second: float, seconds: float, seed: int) -> Iterator[float]:
    """Arrival times in seconds from the start: gaps are exponential, and at least one request arrives."""
    rng, offset = np.random.default_rng(seed), 0.0
    while True:
        yield offset
        offset += float(rng.exponential(1 / per_second))
        if offset >= seconds:
            return


class _Recorder:
    """Sends requests and records their results."""

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
