"""Failures of versions while they answer. After every few of them the version is checked as when it was loaded."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus

from service.errors import Code, ServiceError
from service.inference.workers import Workers
from service.models.catalog import Catalog
from service.models.loaded_model import Model
from service.telemetry.metrics import Metrics

_FAILURES_BEFORE_RECHECK = 5


class FailureWatch:
    """Counts failures and starts checks, one at a time for each version. Used on the event loop only."""

    def __init__(self, catalog: Catalog, metrics: Metrics, queue_size: int) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._checking = Workers("checking", 1, queue_size)
        self._failures: Counter[tuple[str, int]] = Counter()
        self._rechecks: dict[tuple[str, int], asyncio.Task[None]] = {}

    @contextmanager
    def watching(self, models: Sequence[Model]) -> Iterator[None]:
        """Count an exception of the block against the models, unless it blames the request or a full queue."""
        try:
            yield
        except Exception as error:
            if isinstance(error, ServiceError) and error.code.status != HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            for model in models:
                self._count(model, error)
            raise

    def close(self) -> None:
        """Finish a running check and drop waiting ones."""
        self._checking.close()

    def _count(self, model: Model, error: Exception) -> None:
        key = model.manifest.task, model.manifest.version
        if isinstance(error, ServiceError) and error.code is Code.MODEL_NONFINITE:
            self._metrics.nonfinite.labels(model.manifest.task).inc()
        self._failures[key] += 1
        if self._failures[key] >= _FAILURES_BEFORE_RECHECK and key not in self._rechecks:
            del self._failures[key]
            self._rechecks[key] = check = asyncio.create_task(self._check(model))  # the cause may also be the input
            check.add_done_callback(lambda _: self._rechecks.pop(key))

    async def _check(self, model: Model) -> None:
        with suppress(ServiceError):  # the queue is full; later failures start another check
            await self._checking.run(partial(self._catalog.recheck, model))
