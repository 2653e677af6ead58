"""Whose turn it is when several tasks want one encoder: the task's that got least of it lately."""

from __future__ import annotations

import math
import time

_HALF_LIFE_SECONDS = 0.5  # of what counts against a task; also about how long one that comes back can be first


class FairShare:
    """Fair shares by tokens. A task that asks for less than its share goes first whenever it asks."""

    def __init__(self) -> None:
        self._spent: dict[str, tuple[float, float]] = {}  # tokens of a task, and when they were that many

    def spend(self, task: str, tokens: int) -> None:
        """A task got a run."""
        self._spent[task] = (self.recent_tokens(task) + tokens, time.perf_counter())

    def recent_tokens(self, task: str) -> float:
        """How much a task got, what is long ago counting less; who got least is next."""
        tokens, then = self._spent.get(task, (0.0, 0.0))
        return tokens * math.exp2((then - time.perf_counter()) / _HALF_LIFE_SECONDS)
