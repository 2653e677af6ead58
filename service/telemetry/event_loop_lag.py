"""How late the event loop is: whatever computes on it keeps every request waiting."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from prometheus_client import Gauge

_PERIOD_SECONDS = 0.1
_WINDOW_SECONDS = 15.0  # as long as Prometheus commonly leaves between two looks, so that it misses nothing


async def watch_event_loop_lag(gauge: Gauge) -> None:
    """Keep the gauge at the longest that a timer came late in the last 15 seconds; ends when it is cancelled."""
    lags: deque[float] = deque(maxlen=round(_WINDOW_SECONDS / _PERIOD_SECONDS))
    while True:
        due = time.perf_counter() + _PERIOD_SECONDS
        await asyncio.sleep(_PERIOD_SECONDS)
        lags.append(max(0.0, time.perf_counter() - due))
        gauge.set(max(lags))
