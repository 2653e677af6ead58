"""Whose turn it is when several tasks want one encoder: the task's that had least of it."""

from __future__ import annotations

from collections.abc import Collection


class Turns:
    """Fair queueing by tokens. A task that comes back after a pause is owed nothing for it."""

    def __init__(self) -> None:
        self._had: dict[str, int] = {}  # tokens, of every task that waits or waited while another did

    def join(self, task: str, others: Collection[str]) -> None:
        """A task that waited for nothing wants something, while `others` wait."""
        if not others:
            self._had.clear()
        least = min((self._had[other] for other in others), default=0)
        self._had[task] = max(self._had.get(task, 0), least)

    def spend(self, task: str, tokens: int) -> None:
        """A task got a run."""
        self._had[task] = self._had.get(task, 0) + tokens

    def had(self, task: str) -> int:
        """How much a task got; who got least is next."""
        return self._had.get(task, 0)
