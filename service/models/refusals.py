"""The versions that were refused, and when each may be tried again."""

from __future__ import annotations

import structlog

from model_store import StoreError
from service.api.answers import Refusal
from service.models.back_off import BackOff
from service.models.refusal import RefusedError, is_final, reason_of
from service.telemetry.metrics import Metrics

_log = structlog.get_logger()


class Refusals:
    """Refused versions: logged, counted, and tried again later unless the content itself proves the fault.

    A fault of the store's files is found without loading anything, so the live version is tried again every second. An
    error that is the same as before is then neither logged nor counted.
    """

    def __init__(self, metrics: Metrics, retry_seconds: float) -> None:
        self._metrics = metrics
        self._retry_seconds = retry_seconds
        self._live: dict[str, tuple[Refusal, str]] = {}  # and its problem; not the error, which would keep the model
        self.retry_all()

    def of_live(self, task: str) -> Refusal | None:
        """The version that is live in the store and was refused; None if it answers."""
        return self._live[task][0] if task in self._live else None

    def unreadable(self) -> list[str]:
        """The problems of live versions whose files the system cannot read, sorted."""
        return sorted(problem for refusal, problem in self._live.values() if refusal.reason == "unreadable")

    def tasks(self) -> set[str]:
        """The tasks whose live version was refused."""
        return {*self._live}

    def refuse_live(self, task: str, version: int | None, error: StoreError | RefusedError) -> None:
        """Record that the version that is live in the store cannot answer. `version` is None for an unknown one."""
        before, self._live[task] = self._live.get(task), (Refusal(version, reason_of(error)), str(error))
        is_known = isinstance(error, StoreError) and before == self._live[task]
        self._metrics.model_refused.labels(task).set(1)
        self._live_attempts.fail(task, is_final(error), is_cheap=isinstance(error, StoreError))
        if not is_known:
            self.refuse(task, version, error)

    def refuse(self, task: str, version: int | None, error: StoreError | RefusedError) -> None:
        """Record that a version cannot be used."""
        self._attempts.fail((task, version), is_final(error), is_cheap=isinstance(error, StoreError))
        self._metrics.model_loads.labels(task, "refused").inc()
        _log.error("model_refused", task=task, version=version, reason=reason_of(error), problem=str(error))

    def is_waiting(self, task: str, version: int) -> bool:
        """Whether the last attempt to load a version failed and the next one may not start yet."""
        return self._attempts.is_waiting((task, version))

    def is_live_due(self, task: str) -> bool:
        """Whether the live version of a task was refused and may be tried again now."""
        return self._live_attempts.is_due(task)

    def retry_live(self, task: str) -> None:
        """Let the next attempt for the live version of a task start at once."""
        self._live_attempts.forget(task)

    def retry_all(self) -> None:
        """Let the next attempt for every version start at once."""
        self._live_attempts = BackOff[str](self._retry_seconds)  # of the version that `live` points to
        self._attempts = BackOff[tuple[str, int | None]](self._retry_seconds)  # for requests that pin a version

    def forget(self, task: str, version: int) -> None:
        """Forget the failures of a version, because it was loaded."""
        self._attempts.forget((task, version))

    def clear_live(self, task: str) -> None:
        """The live version of a task answers, or none is live."""
        self._live_attempts.forget(task)
        if self._live.pop(task, None):
            self._metrics.model_refused.labels(task).set(0)
