"""What an encoder learns from its runs: how long a run takes, and how much each task has used."""

from __future__ import annotations

import math
import time

_DECAY = 0.97  # weight of the earlier runs at each new one: after 23 runs it is one half
_HALF_LIFE_SECONDS = 0.5  # of a task's use; a task that returns after a pause goes first for about as long


class RunTime:
    """The expected duration of a run: seconds = a * tokens + b, by least squares in which older runs weigh less."""

    def __init__(self) -> None:
        self._weight = self._tokens = self._seconds = self._squares = self._products = 0.0

    def learn(self, tokens: int, seconds: float) -> None:
        """Add a run."""
        self._weight = _DECAY * self._weight + 1
        self._tokens = _DECAY * self._tokens + tokens
        self._seconds = _DECAY * self._seconds + seconds
        self._squares = _DECAY * self._squares + tokens * tokens
        self._products = _DECAY * self._products + tokens * seconds

    def seconds(self, tokens: int, runs: int = 1) -> float:
        """Expected seconds for the tokens, split into this number of runs; 0 before the first run."""
        if not tokens or not self._weight:
            return 0.0
        slope = self._products / self._squares  # a line through the origin, while all runs have the same size
        spread = self._weight * self._squares - self._tokens**2
        if spread > 1e-6 * self._tokens**2:
            slope = max(0.0, (self._weight * self._products - self._tokens * self._seconds) / spread)
        fixed = max(0.0, (self._seconds - slope * self._tokens) / self._weight)
        return slope * tokens + fixed * runs


class FairShare:
    """Recent use by task, in tokens. If the task with the least use runs next, tasks share an encoder equally."""

    def __init__(self) -> None:
        self._used: dict[str, tuple[float, float]] = {}  # tokens of a task, and the time of that value

    def spend(self, task: str, tokens: int) -> None:
        """Count a run of a task."""
        self._used[task] = (self.recent_tokens(task) + tokens, time.perf_counter())

    def recent_tokens(self, task: str) -> float:
        """The tokens that a task has used. Their weight halves with every half-life."""
        tokens, updated = self._used.get(task, (0.0, 0.0))
        return tokens * math.exp2((updated - time.perf_counter()) / _HALF_LIFE_SECONDS)
