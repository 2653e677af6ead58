"""What an encoder learns from its runs: how long a run takes, and how much each task has used."""

from __future__ import annotations

import math
import time

_DECAY = 0.97  # weight of the earlier runs at each new one: after 23 runs it is one half
_FAST_DECAY = 0.5  # of runs that were much slower than the new one, such as the first run after a start
_OUTLIER = 4.0  # a run counts as at most this multiple of its expected duration
_TRUST_SECONDS = 10.0  # half-life of an estimate while no run ends
_HALF_LIFE_SECONDS = 0.5  # of a task's use; a task that returns after a pause goes first for about as long


class RunTime:
    """The expected duration of a run: seconds = a * tokens + b, by least squares in which older runs weigh less.

    An estimate that no run confirms fades, so that a few slow runs cannot make an idle encoder look slow for ever.
    """

    def __init__(self) -> None:
        self._weight = self._tokens = self._seconds = self._squares = self._products = 0.0
        self._learned = 0.0  # time of the last run's end

    def learn(self, tokens: int, seconds: float) -> None:
        """Add a run that has just ended."""
        if self._weight:  # sizes below those seen are judged by the mean, since their fixed cost is not known
            expected = max(self._line(tokens, 1), self._seconds / self._weight)
            seconds = min(seconds, _OUTLIER * expected)
        decay = _FAST_DECAY if _OUTLIER * seconds < self._line(tokens, 1) else _DECAY
        self._weight = decay * self._weight + 1
        self._tokens = decay * self._tokens + tokens
        self._seconds = decay * self._seconds + seconds
        self._squares = decay * self._squares + tokens * tokens
        self._products = decay * self._products + tokens * seconds
        self._learned = time.perf_counter()

    def seconds(self, tokens: int, runs: int = 1) -> float:
        """Expected seconds for the tokens, split into this number of runs; 0 before the first run."""
        trust = math.exp2((self._learned - time.perf_counter()) / _TRUST_SECONDS)
        return trust * self._line(tokens, runs)

    def _line(self, tokens: int, runs: int) -> float:
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
