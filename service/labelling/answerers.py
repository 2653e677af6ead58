"""The answerers of `mora-serve classify`, `embed` and `bulk`: a model in this process, or a running service."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Protocol, TypeVar

import structlog

from model_store import Store, read_trusted_keys
from model_store.items.rows import Row
from service.api.answers import Answer, Classification, Embedding, TaskSummary
from service.api.item import Item
from service.api.requests import ClassifyRequest, EmbedRequest
from service.client import Client, ClientError, ProblemError
from service.errors import Code, ServiceError, internal
from service.inference.engine import Engine
from service.inference.label_sets import check_any_coverage, highest_coverages
from service.labelling.rows import DataSetError, answer_row, check_problem, choose_task, embedding_row
from service.models.catalog import Catalog
from service.models.loading import Loader
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.record import RequestRecord

T = TypeVar("T")
MAX_WAIT_SECONDS = 60.0  # of an item, for a service that is unreachable or busy; then the command fails
FIRST_WAIT_SECONDS = 1.0
_MAX_IN_FLIGHT = 16
_ALL_LABELS = 10**9
_ITEM_CODES = {  # errors of one item; after any other error, the next item would fail too
    Code.BODY_TOO_LARGE,
    Code.BAD_VALUE,
    Code.BAD_TEXT,
    Code.COVERAGE_UNSUPPORTED,
    Code.MISSING_INPUT,
    Code.TEXT_TOO_LARGE,
    Code.IMAGE_FORMAT,
    Code.IMAGE_TOO_MANY_PIXELS,
    Code.IMAGE_UNDECODABLE,
    Code.DEADLINE,
    Code.MODEL_NONFINITE,
    Code.INTERNAL,
}
_log = structlog.get_logger()


class Answerer(Protocol):
    """Answers with one version of a task, and adds label sets if it has a coverage.

    One that embeds is of a retrieval task, and has no labels: `embed` is its only answer. Any other has no vectors.

    Methods raise ClientError or DataSetError if no item can be answered.
    """

    def classify(self, item: Item, top_k: int, explain: bool) -> Classification:
        """The answer of `POST /classify`. Raises ServiceError, or ProblemError if a service refuses the item."""

    def label(self, items: Sequence[Item]) -> list[Answer | ServiceError]:
        """The answer to each item with all labels, best first, or its error."""

    def embed(self, items: Sequence[Item]) -> list[Embedding | ServiceError]:
        """The vector of each item, or its error."""

    def close(self) -> None:
        """End the threads."""


class StoreAnswerer:
    """A version of a store, which is loaded into this process. The engine of the service forms the batches.

    Raises StoreError, RefusedError or DataSetError if the version cannot be loaded, or ServiceError if it supports the
    coverage for no item.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        task: str | None,
        version: int | None,
        coverage: float | None = None,
        *,
        embeds: bool = False,
    ) -> None:
        name = choose_task(task, store.tasks(), store.root)
        loader, metrics = Loader(store, settings, measures=False), Metrics()
        manifest = store.manifest(name, version)
        check_problem(name, manifest.problem, embeds=embeds)
        if coverage is not None:
            check_any_coverage(name, manifest.version, highest_coverages(manifest).values(), coverage)
        self._model = loader.load(name, manifest.version)
        self._max_in_flight = max(1, settings.queue_size)  # the engine refuses more
        self._engine = Engine(Catalog(store, loader, metrics, settings.max_pinned_versions), settings, metrics)
        self._coverage = coverage

    def classify(self, item: Item, top_k: int, explain: bool) -> Classification:
        """The answer of `POST /classify`. Raises ServiceError."""
        return asyncio.run(self._classify(item, top_k, explain))

    def label(self, items: Sequence[Item]) -> list[Answer | ServiceError]:
        """The answer to each item with all labels, best first, or its error."""
        return asyncio.run(self._answer_all(items, self._label))

    def embed(self, items: Sequence[Item]) -> list[Embedding | ServiceError]:
        """The vector of each item, or its error."""
        return asyncio.run(self._answer_all(items, self._embed))

    def close(self) -> None:
        """End the threads."""
        self._engine.close()

    async def _classify(self, item: Item, top_k: int, explain: bool) -> Classification:
        task, version = self._model.manifest.task, self._model.manifest.version
        request = ClassifyRequest(
            image=item.image,
            text=item.text,
            task=task,
            version=version,
            top_k=top_k,
            explain=explain,
            coverage=self._coverage,
        )
        return await self._engine.classify(request, RequestRecord(), self._model)

    async def _label(self, item: Item) -> Answer:
        return await self._classify(item, len(self._model.manifest.labels), explain=False)

    async def _embed(self, item: Item) -> Embedding:
        task, version = self._model.manifest.task, self._model.manifest.version
        request = EmbedRequest(image=item.image, text=item.text, task=task, version=version)
        return await self._engine.embed(request, RequestRecord(), self._model)

    async def _answer_all(
        self, items: Sequence[Item], answer: Callable[[Item], Awaitable[T]]
    ) -> list[T | ServiceError]:
        in_flight = asyncio.Semaphore(self._max_in_flight)

        async def one(item: Item) -> T | ServiceError:
            try:
                async with in_flight:
                    return await answer(item)
            except ServiceError as error:
                return error
            except Exception:  # a defect of the service or of a graph: the other items are still answered
                _log.exception("item_failed", task=self._model.manifest.task)
                return internal()

        return await asyncio.gather(*map(one, items))


class ServiceAnswerer:
    """A running service. Every request names the same version, even if another version becomes live.

    Raises ClientError, DataSetError, ServiceError if the live version supports the coverage for no item, or ValueError
    if the URL or the key is malformed.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        task: str | None,
        version: int | None,
        coverage: float | None = None,
        *,
        embeds: bool = False,
    ) -> None:
        self._client = Client(url, api_key)
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(_MAX_IN_FLIGHT, thread_name_prefix="mora-classify")
        try:
            summary = self._find(task, url)
            check_problem(summary.task, summary.problem, embeds=embeds)
            if coverage is not None and version in (None, summary.version):  # a service describes the live version
                detail = self._client.task(summary.task)
                check_any_coverage(detail.task, detail.version, detail.highest_coverage.values(), coverage)
        except BaseException:
            self._client.close()
            raise
        self._task, self._version = summary.task, version or summary.version
        self._coverage = coverage

    def classify(self, item: Item, top_k: int, explain: bool) -> Classification:
        """The answer of the service. Raises ClientError."""
        return self._client.classify(
            item.image,
            item.text,
            task=self._task,
            version=self._version,
            top_k=top_k,
            explain=explain,
            coverage=self._coverage,
        )

    def label(self, items: Sequence[Item]) -> list[Answer | ServiceError]:
        """The answer to each item with all labels, best first, or its error. Several requests run at the same time."""
        return list(self._pool.map(partial(self._patiently, self._label), items))

    def embed(self, items: Sequence[Item]) -> list[Embedding | ServiceError]:
        """The vector of each item, or its error. Several requests run at the same time."""
        return list(self._pool.map(partial(self._patiently, self._embed), items))

    def close(self) -> None:
        """End the threads and close the connections."""
        self._closed.set()
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def _label(self, item: Item) -> Answer:
        return self.classify(item, _ALL_LABELS, explain=False)

    def _embed(self, item: Item) -> Embedding:
        return self._client.embed(item.image, item.text, task=self._task, version=self._version)

    def _patiently(self, answer: Callable[[Item], T], item: Item) -> T | ServiceError:
        """The answer to an item, or its error; a service that is unreachable or busy is asked again."""
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        wait_seconds = FIRST_WAIT_SECONDS
        while True:
            try:
                return answer(item)
            except ClientError as error:
                if (refusal := _refusal(error)) is not None:
                    return refusal
                wait_seconds = max(wait_seconds, error.retry_after_seconds)
                if not error.retryable or time.monotonic() + wait_seconds > deadline:
                    raise
            if self._closed.wait(wait_seconds * random.uniform(1, 1.5)):  # noqa: S311 - no secret
                raise DataSetError("the command was stopped")
            wait_seconds *= 2

    def _find(self, task: str | None, url: str) -> TaskSummary:
        """The task with its live version. Raises ClientError or DataSetError."""
        live = {summary.task: summary for summary in self._client.tasks().tasks}
        if task is not None and task not in live:
            try:
                self._client.task(task)  # raises the reason why the service does not serve it
            except ProblemError as error:
                if error.code != Code.UNKNOWN_TASK:
                    raise
        return live[choose_task(task, sorted(live), url)]


def open_store(settings: Settings) -> Store:
    """The store of the settings."""
    return Store(settings.store_folder, read_trusted_keys(settings.trusted_keys))


def label_rows(
    items: Sequence[Item | ServiceError], answerer: Answerer, top_k: int, columns: Sequence[str]
) -> list[Row]:
    """The answers to the items as rows of the output; an error among the items is its own answer."""
    answers = iter(answerer.label([item for item in items if isinstance(item, Item)]))
    return [answer_row(item if isinstance(item, ServiceError) else next(answers), top_k, columns) for item in items]


def embed_rows(items: Sequence[Item | ServiceError], answerer: Answerer) -> list[Row]:
    """The vectors of the items as rows of the output; an error among the items is its own answer."""
    answers = iter(answerer.embed([item for item in items if isinstance(item, Item)]))
    return [embedding_row(item if isinstance(item, ServiceError) else next(answers)) for item in items]


def _refusal(error: ClientError) -> ServiceError | None:
    """The error of this item alone, or None if the error concerns every item."""
    if not isinstance(error, ProblemError):
        return None
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and error.code is None:  # the answer of a proxy
        return ServiceError(Code.BODY_TOO_LARGE, "The request is larger than the service's proxy lets through.")
    return ServiceError(Code(error.code), error.detail) if error.code in _ITEM_CODES else None
