"""When an attempt that failed may be repeated."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K")
_FIRST_SECONDS = 1.0
_MOST_KEYS = 1024  # clients choose some of the keys


class _Failure(NamedTuple):
    seconds: float  # from the failure to the next attempt
    next_attempt: float  # by `time.monotonic`


class BackOff(Generic[K]):
    """The next attempt for each key: a second after its first failure, twice as long after each further one, or never.

    Of many keys, the one that failed longest ago is forgotten.

    Args:
        longest_seconds: limit of the time between attempts.
    """

    def __init__(self, longest_seconds: float) -> None:
        self._longest_seconds = longest_seconds
        self._failures: OrderedDict[K, _Failure] = OrderedDict()

    def fail(self, key: K, is_final: bool, *, is_cheap: bool = False) -> None:
        """Record that an attempt failed. After a final failure there is no further attempt.

        Args:
            is_cheap: the attempt took no time, so the next one may start after a second, whatever failed before.
        """
        before = self._failures.pop(key, None)
        seconds = _FIRST_SECONDS if before is None or is_cheap else 2 * before.seconds
        seconds = min(seconds, self._longest_seconds)
        next_attempt = math.inf if is_final else time.monotonic() + seconds
        self._failures[key] = _Failure(seconds, next_attempt)
        if len(self._failures) > _MOST_KEYS:
            self._failures.popitem(last=False)

    def forget(self, key: K) -> None:
        """Forget the failures of a key: an attempt succeeded, or its subject has changed."""
        self._failures.pop(key, None)

    def is_waiting(self, key: K) -> bool:
        """Whether the last attempt failed and the next one may not start yet."""
        failure = self._failures.get(key)
        return failure is not None and time.monotonic() < failure.next_attempt

    def is_due(self, key: K) -> bool:
        """Whether the last attempt failed and the next one may start."""
        return key in self._failures and not self.is_waiting(key)
