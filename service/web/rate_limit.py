"""The rate limit of each client."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from service.errors import Code, ServiceError

_ROUNDING = 1e-3  # part of a token that may be missing because clocks round; the client owes it


class RateLimit:
    """A token bucket for each client. It holds `burst` tokens and gets `per_second` a second.

    A request takes a token for each of its answers: one, or the cells of a batch.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and the time of that value

    def charge(self, client: str, tokens: int = 1, paid: int = 0) -> None:
        """Take tokens. Raises ServiceError `rate_limited`."""
        seconds = self.take(client, tokens, paid)
        if seconds > 0:
            detail = "Send requests less often; Retry-After gives the wait in seconds."
            raise ServiceError(Code.RATE_LIMITED, detail, math.ceil(seconds))

    def take(self, client: str, tokens: int = 1, paid: int = 0) -> float:
        """Take tokens: 0.0, or the seconds until there are enough; then none is taken.

        More tokens than a bucket holds need a full bucket, and the client owes the rest.

        Args:
            paid: tokens that the same request has taken before; they are put back first.
        """
        now, most = self._clock(), float(self._burst)
        left, updated = self._buckets.get(client, (most, now))
        left = min(most, left + paid + (now - updated) * self._per_second)
        needed = min(float(tokens), most)
        has_enough = left >= needed - _ROUNDING
        self._buckets[client] = (left - tokens if has_enough else left), now
        return 0.0 if has_enough else (needed - left) / self._per_second
