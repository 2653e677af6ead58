"""The expected duration of an encoder's run, learnt from its runs: seconds = a * tokens + b."""

from __future__ import annotations

_DECAY = 0.97  # weight of the earlier runs at each new one: half of it is gone after 23


class RunTime:
    """Least squares over recent runs; older runs weigh less."""

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
        """Expected seconds for the tokens, split into so many runs; 0 before the first run."""
        if not tokens or not self._weight:
            return 0.0
        slope = self._products / self._squares  # through the origin, as long as all runs had one size
        spread = self._weight * self._squares - self._tokens**2
        if spread > 1e-6 * self._tokens**2:
            slope = max(0.0, (self._weight * self._products - self._tokens * self._seconds) / spread)
        fixed = max(0.0, (self._seconds - slope * self._tokens) / self._weight)
        return slope * tokens + fixed * runs
