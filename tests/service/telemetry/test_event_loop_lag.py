from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, Gauge

from service.telemetry import event_loop_lag as lag


def test_what_blocks_the_event_loop_shows(shelf, serve, sample):
    client = serve(shelf.store)

    client.portal.call(time.sleep, 0.5)

    deadline = time.monotonic() + 30
    while sample(client, "mora_event_loop_lag_seconds") < 0.3:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_is_the_latest_of_the_last_fifteen_seconds(monkeypatch):
    now, seen, late = 0.0, [], iter([0.0, 0.5, *[0.01] * 150])
    gauge = Gauge("lag", "Lag.", registry=CollectorRegistry())

    async def sleep(seconds: float) -> None:
        nonlocal now
        seen.append(round(gauge._value.get(), 6))
        try:
            now += seconds + next(late)
        except StopIteration:
            raise asyncio.CancelledError from None

    monkeypatch.setattr(lag, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(lag, "asyncio", SimpleNamespace(sleep=sleep))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(lag.watch_event_loop_lag(gauge))

    assert seen == [0.0, 0.0, *[0.5] * 150, 0.01]
