"""The loaded versions of all tasks, kept in step with the store's `live` pointers."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping

import structlog
from prometheus_client import Gauge

from model_store import CorruptError, NotFoundError, Store, StoreError
from service.api.answers import Refusal
from service.errors import Code, ServiceError, no_model, unknown_version
from service.models.back_off import BackOff
from service.models.loaded_model import Model
from service.models.loading import Loader
from service.models.refusal import RefusedError, ShortageError, is_final, reason_of, refusing
from service.telemetry.metrics import Metrics

_log = structlog.get_logger()
_FAILED = "This version failed its checks when it was loaded; leave `version` out to use the live one."


class Catalog:
    """The loaded models. `refresh`, `pinned` and `recheck` block, and each may be called from a thread of its own.

    Versions are loaded outside of the lock, so that `refresh` never waits for a version that a client pins.

    A task stays loaded when its folder or the whole store disappears: an answer from the last good version is better
    than none. Only `mora-store withdraw` ends its answers. An intact version that fails its checks is refused for good.
    After any other failure the version is tried again: the live one by `refresh`, within `retry_seconds`, and a pinned
    one for the next request after that time. Pinned requests do not change the time of the live version's next attempt.

    Attributes:
        live: the live models by task. The mapping is replaced, never changed.
    """

    def __init__(
        self, store: Store, loader: Loader, metrics: Metrics, max_pinned_versions: int, retry_seconds: float = 30.0
    ) -> None:
        self._store = store
        self.loader = loader
        self._metrics = metrics
        self._max_pinned_versions = max_pinned_versions
        self.live: Mapping[str, Model] = {}
        self._pinned: OrderedDict[tuple[str, int], Model] = OrderedDict()
        self._pointers: dict[str, int | None] = {}  # `live` of each task at the last refresh; None: unreadable
        self._refusals: dict[str, Refusal] = {}  # of the versions that `live` points to now
        self._live_attempts = BackOff[str](retry_seconds)  # of the version that `live` points to
        self._pinned_attempts = BackOff[tuple[str, int | None]](retry_seconds)
        self._lock = threading.Lock()  # held while attributes change

    def find(self, task: str | None) -> Model:
        """The live model of a task, by default of the only loaded one. Raises ServiceError."""
        if task is not None and task not in self.live and (refusal := self.refusal(task)):
            detail = f"Its live version failed its checks ({refusal.reason}); activate another one."
            raise ServiceError(Code.VERSION_REFUSED, detail)
        if not self.live:
            raise no_model()
        if task is None:
            if len(self.live) > 1:
                raise ServiceError(Code.BAD_VALUE, "Several tasks are loaded, so name one; GET /tasks lists them.")
            return next(iter(self.live.values()))
        if task not in self.live:
            raise ServiceError(Code.UNKNOWN_TASK, "No such task is loaded; GET /tasks lists those that are.")
        return self.live[task]

    def refusal(self, task: str) -> Refusal | None:
        """The reason why the version that is live in the store does not answer; None if it does."""
        return self._refusals.get(task)

    def loaded(self, task: str, version: int) -> Model | None:
        """A version, if it is live or pinned already.

        Raises ServiceError `version_refused` if loading it failed and the next attempt is not due.
        """
        live = self.live.get(task)
        model = live if live and live.manifest.version == version else self._pinned.get((task, version))
        if model is None and self._pinned_attempts.is_waiting((task, version)):
            raise ServiceError(Code.VERSION_REFUSED, _FAILED)
        return model

    def pinned(self, task: str, version: int) -> Model:
        """A version of a loaded task, loaded now if necessary; the oldest pinned version is evicted. Blocking."""
        if loaded := self.loaded(task, version):
            return loaded
        model = self._load_pinned(task, version)
        with self._lock:
            if loaded := self.loaded(task, version):  # it became live meanwhile
                return loaded
            if task in self.live:  # else the task was withdrawn meanwhile
                self._pinned[task, version] = model
            if len(self._pinned) > self._max_pinned_versions:
                self._pinned.popitem(last=False)
        _log.info("model_pinned", task=task, version=version)
        return model

    def recheck(self, model: Model) -> None:
        """Check a loaded version again and unload it if the check fails. Blocking.

        A shortage, or a store that cannot be read, says nothing about the version, which stays loaded.
        """
        try:
            with refusing("load"):
                self.loader.check(model)
        except (StoreError, ShortageError) as error:
            task, version = model.manifest.task, model.manifest.version
            _log.warning("model_not_rechecked", task=task, version=version, problem=str(error))
        except RefusedError as error:
            with self._lock:
                self._withdraw(model, error)

    def refresh(self) -> None:
        """Load versions that were published or activated since the last call. Blocking."""
        for task in self._store.tasks():
            self._follow(task)

    def _follow(self, task: str) -> None:
        pointer = problem = None
        try:
            if self._store.is_withdrawn(task):
                with self._lock:
                    self._withdraw_task(task)
            pointer = self._store.live(task)
        except NotFoundError:  # a folder that is not a task, or a task that was just removed
            pass
        except CorruptError as error:
            problem = error
        if task not in self._pointers or self._pointers[task] != pointer:
            self._pointers[task] = pointer
            self._live_attempts.forget(task)
        elif not self._live_attempts.is_due(task):
            return
        if problem is not None:
            with self._lock:
                self._refuse(task, pointer, problem, is_live=True)
        elif pointer is not None and (task not in self.live or self.live[task].manifest.version != pointer):
            self._switch(task, pointer)
        elif self._refusals.pop(task, None):
            self._live_attempts.forget(task)
            self._metrics.model_refused.labels(task).set(0)

    def _withdraw_task(self, task: str) -> None:
        for key in [key for key in self._pinned if key[0] == task]:
            del self._pinned[key]
        if task in self.live:
            model = self._remove_live(task)
            _log.info("task_withdrawn", task=task, version=model.manifest.version)

    def _remove_live(self, task: str) -> Model:
        model = self.live[task]
        self.live = {name: other for name, other in self.live.items() if name != task}
        self._show(model, is_live=False)
        return model

    def _switch(self, task: str, version: int) -> None:
        try:
            model = self._pinned.get((task, version)) or self._load(task, version)
        except (StoreError, RefusedError) as error:
            with self._lock:
                self._refuse(task, version, error, is_live=True)
            return
        with self._lock:
            before = self.live.get(task)
            self.live = {**self.live, task: model}
            self._pinned.pop((task, version), None)
            self._refusals.pop(task, None)
            self._live_attempts.forget(task)
            self._metrics.model_refused.labels(task).set(0)
            if before is not None:
                self._show(before, is_live=False)
            self._show(model, is_live=True)
            self._metrics.show_training_baseline(model.manifest)
        _log.info("model_loaded", task=task, version=version, before=before and before.manifest.version)

    def _show(self, model: Model, *, is_live: bool) -> None:
        for gauge, labels in _series(self._metrics, model):
            if is_live:
                gauge.labels(*labels).set(1)
            else:
                gauge.remove(*labels)

    def _withdraw(self, model: Model, error: StoreError | RefusedError) -> None:
        task, version = model.manifest.task, model.manifest.version
        self._pinned.pop((task, version), None)
        self._refuse(task, version, error, is_live=self._pointers.get(task) == version)
        if self.live.get(task) is model:
            self._remove_live(task)

    def _load_pinned(self, task: str, version: int) -> Model:
        try:
            return self._load(task, version)
        except NotFoundError as error:
            raise unknown_version() from error
        except (StoreError, RefusedError) as error:
            with self._lock:
                self._refuse(task, version, error, is_live=False)
            raise ServiceError(Code.VERSION_REFUSED, _FAILED) from error

    def _load(self, task: str, version: int) -> Model:
        start = time.perf_counter()
        with refusing("load"):
            model = self.loader.load(task, version)
        self._pinned_attempts.forget((task, version))
        self._metrics.model_load_duration.observe(time.perf_counter() - start)
        self._metrics.model_loads.labels(task, "loaded").inc()
        return model

    def _refuse(self, task: str, version: int | None, error: StoreError | RefusedError, is_live: bool) -> None:
        if is_live:
            self._refusals[task] = Refusal(version, reason_of(error))
            self._metrics.model_refused.labels(task).set(1)
            self._live_attempts.fail(task, is_final(error))
        self._pinned_attempts.fail((task, version), is_final(error))
        self._metrics.model_loads.labels(task, "refused").inc()
        _log.error("model_refused", task=task, version=version, reason=reason_of(error), problem=str(error))


def _series(metrics: Metrics, model: Model) -> Iterator[tuple[Gauge, tuple[str, ...]]]:
    """The series that tell that a version is live."""
    manifest = model.manifest
    identity = (manifest.task, str(manifest.version), model.precision.value, manifest.backbone.name)
    yield metrics.model_info, identity
    for modality, tower in model.towers.items():
        yield metrics.tower_info, (manifest.task, modality, tower.execution.runtime, tower.execution.precision)
