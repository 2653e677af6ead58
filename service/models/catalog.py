"""The loaded versions of all tasks, kept in step with the store's `live` pointers."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import structlog
from prometheus_client import Gauge

from model_store import Manifest, NotFoundError, Store, StoreError, UntrustedError
from service.api.answers import Refusal
from service.errors import Code, ServiceError, no_model, unknown_version
from service.models.loaded_model import Model
from service.models.loading import Loader
from service.models.refusal import RefusedError, ShortageError, refusing
from service.models.refusals import Refusals
from service.models.store_view import Pointer, StoreView
from service.telemetry.metrics import Metrics

_log = structlog.get_logger()
_FAILED = "This version failed its checks when it was loaded; leave `version` out to use the live one."


class _Pinned(NamedTuple):
    model: Model
    stamp: object  # of its manifest


class Catalog:
    """The loaded models. `refresh`, `reread`, `pinned` and `recheck` block, and may be called from several threads.

    Versions are loaded outside of the lock, so that `refresh` never waits for a version that a client pins.

    A task stays loaded while the store or a part of it is missing, cannot be read or is damaged: an answer from the
    last good version is better than none. `mora-store withdraw` ends its answers, and so does the removal of its folder
    from a store that can be read. An intact version that fails its checks is refused until its manifest changes. After
    any other failure the version is tried again (`Refusals`): the live one by `refresh`, and a pinned one for the next
    request after that time. Pinned requests do not change the time of the live version's next attempt.

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
        self._pinned: OrderedDict[tuple[str, int], _Pinned] = OrderedDict()
        self._view = StoreView(store, metrics)
        self._pointers: dict[str, Pointer] = {}  # at the last refresh
        self._refusals = Refusals(metrics, retry_seconds)
        self._lock = threading.Lock()  # held while attributes change

    def find(self, task: str | None) -> Model:
        """The live model of a task, by default of the only loaded one. Raises ServiceError."""
        live = self.live  # another thread may replace it meanwhile
        if task is not None and task not in live and (refusal := self.refusal(task)):
            detail = f"Its live version failed its checks ({refusal.reason}); activate another one."
            raise ServiceError(Code.VERSION_REFUSED, detail)
        if not live:
            raise no_model()
        if task is None:
            if len(live) > 1:
                raise ServiceError(Code.BAD_VALUE, "Several tasks are loaded, so name one; GET /tasks lists them.")
            return next(iter(live.values()))
        if task not in live:
            raise ServiceError(Code.UNKNOWN_TASK, "No such task is loaded; GET /tasks lists those that are.")
        return live[task]

    def refused(self) -> set[str]:
        """The tasks whose version that is live in the store does not answer."""
        return self._refusals.tasks()

    def refusal(self, task: str) -> Refusal | None:
        """The reason why the version that is live in the store does not answer; None if it does."""
        return self._refusals.of_live(task)

    def loaded(self, task: str, version: int) -> Model | None:
        """A version, if it is live or pinned already.

        Raises ServiceError `version_refused` if loading it failed and the next attempt is not due.
        """
        live = self.live.get(task)
        if live and live.manifest.version == version:
            return live
        if pinned := self._pinned.get((task, version)):
            return pinned.model
        if self._refusals.is_waiting(task, version):
            raise ServiceError(Code.VERSION_REFUSED, _FAILED)
        return None

    def pinned(self, task: str, version: int) -> Model:
        """A version of a loaded task, loaded now if necessary; the oldest pinned version is evicted. Blocking."""
        if loaded := self.loaded(task, version):
            return loaded
        stamp, model = self._load_pinned(task, version)
        with self._lock:
            if loaded := self.loaded(task, version):  # it became live meanwhile
                return loaded
            if task in self.live:  # else the task was withdrawn meanwhile
                self._pinned[task, version] = _Pinned(model, stamp)
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
        """Load versions that were published or activated since the last call, and drop removed tasks. Blocking."""
        entries = self._view.entries(self.live)
        if entries is None:
            return
        for task in sorted({*self.live, *self._pointers, *self._refusals.tasks()}.difference(entries)):
            if (version := self._end(task)) is not None:
                _log.info("task_removed", task=task, version=version)
            self._pointers.pop(task, None)
        for task in entries:
            self._follow(task)
        self._drop_replaced_pins()
        self._view.conclude(self._refusals.unreadable())

    def reread(self, trusted_keys: Path | None) -> None:
        """Have the next refresh try every refused version, as at a start. Blocking.

        Args:
            trusted_keys: the file of them, which is read again. Versions that none of them signed are unloaded.
        """
        if trusted_keys is not None:
            self._view.reread_trusted_keys(trusted_keys)
        for model in [*self.live.values(), *(pinned.model for pinned in self._pinned.values())]:
            try:
                self._store.manifest(model.manifest.task, model.manifest.version)
            except UntrustedError as error:
                with self._lock:
                    self._withdraw(model, error)
            except StoreError:
                pass  # says nothing about its signature
        self._refusals.retry_all()
        self._pointers = dict.fromkeys(self._pointers, Pointer())

    def _follow(self, task: str) -> None:
        before, pointer = self._pointers.get(task), self._view.pointer(task, task in self.live)
        self._pointers[task] = pointer
        if pointer != before:
            self._refusals.retry_live(task)
        elif not self._refusals.is_live_due(task):
            return
        if pointer.error is not None:
            with self._lock:
                self._refusals.refuse_live(task, pointer.live, pointer.error)
        elif pointer.live is not None:
            self._switch(task, pointer.live)
        elif pointer.is_withdrawn:
            if (version := self._end(task)) is not None:
                _log.info("task_withdrawn", task=task, version=version)
        else:
            with self._lock:
                self._refusals.clear_live(task)

    def _end(self, task: str) -> int | None:
        """Stop answering for a task. Returns the version that answered."""
        with self._lock:
            self._refusals.clear_live(task)
            for key in [key for key in self._pinned if key[0] == task]:
                del self._pinned[key]
            self._metrics.forget_task(task)
            return self._remove_live(task).manifest.version if task in self.live else None

    def _drop_replaced_pins(self) -> None:
        """Let the next request for a pinned version load it again if its manifest may have changed."""
        for key, pinned in list(self._pinned.items()):
            if self._view.stamp(*key) not in (None, pinned.stamp):
                with self._lock:
                    self._pinned.pop(key, None)

    def _remove_live(self, task: str) -> Model:
        model = self.live[task]
        self.live = {name: other for name, other in self.live.items() if name != task}
        self._show(model, is_live=False)
        return model

    def _switch(self, task: str, version: int) -> None:
        try:
            with refusing("load"):
                manifest = self._store.manifest(task, version)
            model = self._loaded_from(manifest) or self._load(task, version)
        except (StoreError, RefusedError) as error:
            with self._lock:
                self._refusals.refuse_live(task, version, error)
            return
        with self._lock:
            self._refusals.clear_live(task)
            before = self.live.get(task)
            if before is model:
                return
            self.live = {**self.live, task: model}
            self._pinned.pop((task, version), None)
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

    def _loaded_from(self, manifest: Manifest) -> Model | None:
        """The model of this very manifest, which names all content, if it is loaded. Another store may have another."""
        pinned = self._pinned.get((manifest.task, manifest.version))
        candidates = (self.live.get(manifest.task), pinned and pinned.model)
        return next((model for model in candidates if model is not None and model.manifest == manifest), None)

    def _withdraw(self, model: Model, error: StoreError | RefusedError) -> None:
        task, version = model.manifest.task, model.manifest.version
        self._pinned.pop((task, version), None)
        if self._pointers.get(task, Pointer()).live == version:
            self._refusals.refuse_live(task, version, error)
        else:
            self._refusals.refuse(task, version, error)
        if self.live.get(task) is model:
            self._remove_live(task)

    def _load_pinned(self, task: str, version: int) -> tuple[object, Model]:
        """The stamp of a version's manifest, and its model. Raises ServiceError."""
        try:
            return self._view.stamp(task, version), self._load(task, version)
        except NotFoundError as error:
            raise unknown_version() from error
        except (StoreError, RefusedError) as error:
            if self._view.lacks(task, version):  # it was removed while it was loading
                raise unknown_version() from error
            with self._lock:
                self._refusals.refuse(task, version, error)
            raise ServiceError(Code.VERSION_REFUSED, _FAILED) from error

    def _load(self, task: str, version: int) -> Model:
        start = time.perf_counter()
        with refusing("load"):
            model = self.loader.load(task, version)
        self._refusals.forget(task, version)
        self._metrics.model_load_duration.observe(time.perf_counter() - start)
        self._metrics.model_loads.labels(task, "loaded").inc()
        return model


def _series(metrics: Metrics, model: Model) -> Iterator[tuple[Gauge, tuple[str, ...]]]:
    """The series that tell that a version is live."""
    manifest = model.manifest
    identity = (manifest.task, str(manifest.version), model.precision.value, manifest.backbone.name)
    yield metrics.model_info, identity
    for modality, tower in model.towers.items():
        yield metrics.tower_info, (manifest.task, modality, tower.execution.runtime, tower.execution.precision)
