"""Fair shares of one encoder among tasks: the task with the least recent use runs next."""

from __future__ import annotations

import math
import time

_HALF_LIFE_SECONDS = 0.5  # of a task's use; also about the longest time that a returning task goes first


class FairShare:
    """Recent use by task, in tokens. A task that uses less than its share always goes first."""

    def __init__(self) -> None:
        self._used: dict[str, tuple[float, float]] = {}  # tokens of a task, and the time of that value

    def spend(self, task: str, tokens: int) -> None:
        """Count a run of a task."""
        self._used[task] = (self.recent_tokens(task) + tokens, time.perf_counter())

    def recent_tokens(self, task: str) -> float:
        """The tokens that a task has used, halved for every half-life since."""
        tokens, updated = self._used.get(task, (0.0, 0.0))
        return tokens * math.exp2((updated - time.perf_counter()) / _HALF_LIFE_SECONDS)
