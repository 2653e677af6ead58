"""What the store says of its tasks, and since when it cannot be read."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import structlog

from model_store import CorruptError, NotFoundError, Store, StoreError, read_trusted_keys
from model_store.messages import describe_error, quoted
from service.telemetry.metrics import Metrics

_log = structlog.get_logger()


class Pointer(NamedTuple):
    """What the store says of a task.

    Attributes:
        live: the version that is to answer.
        stamp: changes if the manifest of this version may have changed.
        is_withdrawn: whether nothing is to answer until a version is activated.
        problem: why nothing is known, as a sentence; `reason` is the same in one word.
    """

    live: int | None = None
    stamp: object = None
    is_withdrawn: bool = False
    problem: str = ""
    reason: str = ""

    @property
    def error(self) -> CorruptError | None:
        """The problem as an error."""
        return CorruptError(self.problem, self.reason) if self.problem else None


class StoreView:
    """A store that a service follows. The log has each problem once, and the metric the time without a reading."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._folder_id: object = None  # of the folder `tasks` at the last reading
        self._read = time.monotonic()
        self._was_read = False
        self._problem: str | None = None
        metrics.store_seconds_since_read.set_function(lambda: time.monotonic() - self._read)

    def entries(self, loaded: Collection[str]) -> list[str] | None:
        """Names in the folder of tasks; None if it cannot be read.

        A store without tasks in the place of the one before counts as unreadable, because an unmounted folder looks
        like that. Tasks that were removed from the same folder are gone.

        Args:
            loaded: the tasks that answer.
        """
        try:
            entries = self._store.entries()
            if entries or not loaded:
                self._folder_id = self._store.folder_id()
            elif self._folder_id != self._store.folder_id():
                problem = f"{self._store.root} is another store than before, without tasks"
                raise CorruptError(f"{problem}; mount the store there, or withdraw the tasks (mora-store)", "missing")
        except CorruptError as error:
            if self._was_read or error.reason != "missing":  # else the store may still be created
                self._fail(str(error))
            return None
        return entries

    def pointer(self, task: str, is_loaded: bool) -> Pointer:
        """What the store says of a task. A loaded task without `live` has lost it."""
        try:
            if self._store.is_withdrawn(task):
                return Pointer(is_withdrawn=True)
            version = self._store.live(task)
        except NotFoundError:  # not a folder
            version = None
        except CorruptError as error:
            return Pointer(problem=str(error), reason=error.reason)
        if version is None and is_loaded:
            cure = f"run `mora-store activate {task} VERSION --store {quoted(self._store.root)}`"
            return Pointer(problem=f"tasks/{task}/live is missing; {cure}", reason="missing")
        return Pointer() if version is None else Pointer(version, self.stamp(task, version))

    def stamp(self, task: str, version: int) -> object:
        """Changes if the manifest of a version may have changed; None if it is missing or cannot be read."""
        try:
            return self._store.stamp(task, version)
        except CorruptError:
            return None

    def lacks(self, task: str, version: int) -> bool:
        """Whether the store has no such version. False if that is unknown."""
        try:
            return version not in self._store.versions(task)
        except StoreError:
            return False

    def conclude(self, problems: Collection[str]) -> None:
        """End a reading.

        Args:
            problems: of tasks whose files could not be read.
        """
        if problems:
            self._fail("; ".join(problems))
            return
        if self._problem is not None:
            _log.info("store_read_again", seconds=round(time.monotonic() - self._read, 1))
        self._read, self._problem, self._was_read = time.monotonic(), None, True

    def reread_trusted_keys(self, path: Path) -> None:
        """Trust the keys of a file from now on. If it is unusable, the previous keys stay trusted."""
        try:
            self._store.trusted = read_trusted_keys(path)
            _log.info("trusted_keys_loaded")
        except (OSError, StoreError) as error:
            problem = describe_error(error)
            _log.error("trusted_keys_unusable", problem=problem)

    def _fail(self, problem: str) -> None:
        if problem != self._problem:
            _log.error("store_unreadable", problem=problem)
        self._problem = problem
