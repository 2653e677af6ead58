"""The answerers of `mora-serve classify` and `bulk`; this module has the one that loads a model into this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from model_store import Store, read_trusted_keys
from model_store.items.rows import Row
from service.api.answers import Answer, Classification
from service.api.item import Item
from service.api.requests import ClassifyRequest
from service.errors import ServiceError, internal
from service.inference.engine import Engine
from service.labelling.rows import answer_row, choose_task
from service.models.catalog import Catalog
from service.models.loading import Loader
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.record import RequestRecord

_log = structlog.get_logger()


class Answerer(Protocol):
    """Answers with one version of a task. Methods raise ClientError or DataSetError if no item can be answered."""

    def classify(self, item: Item, top_k: int, explain: bool) -> Classification:
        """The answer of `POST /classify`. Raises ServiceError, or ProblemError if a service refuses the item."""

    def label(self, items: Sequence[Item | ServiceError]) -> list[Answer | ServiceError]:
        """The answer to each item with all labels, best first, or its error. An error among the items is returned."""

    def close(self) -> None:
        """End the threads."""


class StoreAnswerer:
    """A version of a store, which is loaded into this process. The engine of the service forms the batches.

    Raises StoreError, RefusedError or DataSetError if the version cannot be loaded.
    """

    def __init__(self, store: Store, settings: Settings, task: str | None, version: int | None) -> None:
        name = choose_task(task, store.tasks(), store.root)
        loader, metrics = Loader(store, settings), Metrics()
        self._model = loader.load(name, version or store.manifest(name).version)
        self._max_in_flight = max(1, settings.queue_size)  # the engine refuses more
        self._engine = Engine(Catalog(store, loader, metrics, settings.max_pinned_versions), settings, metrics)

    def classify(self, item: Item, top_k: int, explain: bool) -> Classification:
        """The answer of `POST /classify`. Raises ServiceError."""
        return asyncio.run(self._classify(item, top_k, explain))

    def label(self, items: Sequence[Item | ServiceError]) -> list[Answer | ServiceError]:
        """The answer to each item with all labels, best first, or its error."""
        return asyncio.run(self._label_all(items))

    def close(self) -> None:
        """End the threads."""
        self._engine.close()

    async def _classify(self, item: Item, top_k: int, explain: bool) -> Classification:
        task, version = self._model.manifest.task, self._model.manifest.version
        request = ClassifyRequest(
            image=item.image, text=item.text, task=task, version=version, top_k=top_k, explain=explain
        )
        return await self._engine.classify(request, RequestRecord(), self._model)

    async def _label_all(self, items: Sequence[Item | ServiceError]) -> list[Answer | ServiceError]:
        in_flight = asyncio.Semaphore(self._max_in_flight)

        async def label(item: Item | ServiceError) -> Answer | ServiceError:
            async with in_flight:
                return item if isinstance(item, ServiceError) else await self._label(item)

        return await asyncio.gather(*map(label, items))

    async def _label(self, item: Item) -> Answer | ServiceError:
        try:
            return await self._classify(item, len(self._model.manifest.labels), explain=False)
        except ServiceError as error:
            return error
        except Exception:  # a defect of the service or of a graph: the other items are still labelled
            _log.exception("item_failed", task=self._model.manifest.task)
            return internal()


def open_store(settings: Settings) -> Store:
    """The store as a service with these settings opens it."""
    return Store(settings.store, read_trusted_keys(settings.trusted_keys))


def label_rows(items: Sequence[Item | ServiceError], answerer: Answerer, top_k: int) -> list[Row]:
    """The answers to the items as rows of the output."""
    return [answer_row(answer, top_k) for answer in answerer.label(items)]
