"""Many items labelled in this process, with the answers that a service on the same store and settings would give."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from model_store import Store, read_trusted_keys
from service.api.answers import Answer, Classification
from service.api.item import Item
from service.api.requests import ClassifyRequest
from service.errors import ServiceError, internal
from service.inference.engine import Engine
from service.models.catalog import Catalog
from service.models.loading import Loader
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.record import RequestRecord

_log = structlog.get_logger()


class Labeller:
    """One version of a task, loaded once and run by the service's own engine, which forms the batches.

    Raises StoreError or RefusedError where the version cannot be loaded.
    """

    def __init__(self, store: Store, settings: Settings, task: str, version: int) -> None:
        loader, metrics = Loader(store, settings), Metrics()
        self.model = loader.load(task, version)
        self._in_flight = max(1, settings.queue_size)  # no more, or the engine would refuse them
        self._engine = Engine(Catalog(store, loader, metrics, settings.max_pinned_versions), settings, metrics)

    def label(self, items: Iterable[Item | ServiceError]) -> list[Answer | ServiceError]:
        """Every label of each item, best first, or why it has none; what is an error already stays one. Blocking."""
        return asyncio.run(self._label_all(items))

    def classify(self, request: ClassifyRequest) -> Classification:
        """What `POST /classify` answers to a request for this version. Blocking. Raises ServiceError."""
        return asyncio.run(self._engine.classify(request, RequestRecord(), self.model))

    def close(self) -> None:
        """End the threads."""
        self._engine.close()

    async def _label_all(self, items: Iterable[Item | ServiceError]) -> list[Answer | ServiceError]:
        places = asyncio.Semaphore(self._in_flight)

        async def label(item: Item | ServiceError) -> Answer | ServiceError:
            async with places:
                return item if isinstance(item, ServiceError) else await self._label(item)

        return await asyncio.gather(*map(label, items))

    async def _label(self, item: Item) -> Answer | ServiceError:
        record = RequestRecord()
        try:
            prepared = await self._engine.prepare([self.model], item, record)
            (features,) = await self._engine.encode([self.model], prepared, record)
            return self._engine.decide(self.model, prepared, features, len(self.model.manifest.labels), record)
        except ServiceError as error:
            return error
        except Exception:  # a fault of ours, or of a graph: the other items go on
            _log.exception("item_failed", task=self.model.manifest.task)
            return internal()


def open_store(settings: Settings) -> Store:
    """The store as a service with these settings opens it."""
    return Store(settings.store, read_trusted_keys(settings.trusted_keys))
