"""How often each client may ask: a token bucket for each."""

from __future__ import annotations

import time
from collections.abc import Callable

_ROUNDING = 1e-3  # of a token, which the rounding of a clock may be short of; it is owed, not given


class RateLimit:
    """Buckets that hold `burst` tokens and get `per_second` more each second; a request takes one.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when there were that many

    def take(self, client: str) -> float:
        """Take a token: 0.0, or the seconds until there is one to take."""
        now = self._clock()
        tokens, then = self._buckets.get(client, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - then) * self._per_second)
        is_there = tokens >= 1 - _ROUNDING
        self._buckets[client] = (tokens - 1 if is_there else tokens), now
        return 0.0 if is_there else (1 - tokens) / self._per_second
