"""How long an encoder's runs take, learnt from those it made: seconds = a * tokens + b."""

from __future__ import annotations

_KEPT = 0.97  # share of what is known that outlives the next run: half of it after 23


class RunTime:
    """Least squares over recent runs, older ones weighing less."""

    def __init__(self) -> None:
        self._weight = self._tokens = self._seconds = self._squares = self._products = 0.0

    def learn(self, tokens: int, seconds: float) -> None:
        """Take note of a run."""
        self._weight = _KEPT * self._weight + 1
        self._tokens = _KEPT * self._tokens + tokens
        self._seconds = _KEPT * self._seconds + seconds
        self._squares = _KEPT * self._squares + tokens * tokens
        self._products = _KEPT * self._products + tokens * seconds

    def seconds(self, tokens: int, runs: int = 1) -> float:
        """What so many tokens take in so many runs; 0 before anything is known."""
        if not tokens or not self._weight:
            return 0.0
        slope = self._products / self._squares  # through the origin, while all runs were of one size
        spread = self._weight * self._squares - self._tokens**2
        if spread > 1e-6 * self._tokens**2:
            slope = max(0.0, (self._weight * self._products - self._tokens * self._seconds) / spread)
        fixed = max(0.0, (self._seconds - slope * self._tokens) / self._weight)
        return slope * tokens + fixed * runs
