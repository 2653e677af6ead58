"""Who answers `mora-serve classify`: a model in this process, or a running service, with the same answers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from types import TracebackType
from typing import Protocol, Self

from model_store import Store
from service.api.answers import Answer, Classification
from service.api.item import Item
from service.api.requests import ClassifyRequest
from service.client import Client, ClientError, ProblemError
from service.errors import Code, ServiceError
from service.labelling.labeller import Labeller
from service.labelling.rows import DataSetError, choose_task
from service.settings import Settings

Answers = list[Answer | ServiceError]
_IN_FLIGHT = 16
_PATIENCE_SECONDS = 60.0  # how long a service may be away, or refuse, before all of the work is given up
_FIRST_WAIT_SECONDS = 1.0
_EVERY_LABEL = 10**9
_OF_ITEMS = {  # what one item can be refused for; anything else would meet the next one too
    Code.BODY_TOO_LARGE,
    Code.BAD_VALUE,
    Code.BAD_TEXT,
    Code.MISSING_INPUT,
    Code.TEXT_TOO_LARGE,
    Code.IMAGE_FORMAT,
    Code.IMAGE_TOO_MANY_PIXELS,
    Code.IMAGE_UNDECODABLE,
    Code.DEADLINE,
    Code.MODEL_NONFINITE,
    Code.INTERNAL,
}


class Answerer(Protocol):
    """One version of a task. Raises ClientError or DataSetError where it can answer nothing at all."""

    def classify(self, item: Item, top_k: int, explain: bool) -> Classification:
        """What `POST /classify` answers. Raises ServiceError, or ProblemError for what a service refused."""

    def label(self, items: Sequence[Item | ServiceError]) -> Answers:
        """Every label of each item, best first, or why it has none; what is an error already stays one."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class StoreAnswerer:
    """A version of a store's, loaded into this process. Raises StoreError, RefusedError or DataSetError."""

    def __init__(self, store: Store, settings: Settings, task: str | None, version: int | None) -> None:
        name = choose_task(task, store.tasks(), store.root)
        self._labeller = Labeller(store, settings, name, version or store.manifest(name).version)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._labeller.close()

    def classify(self, item: Item, top_k: int, explain: bool) -> Classification:
        """What `POST /classify` answers. Raises ServiceError."""
        manifest = self._labeller.model.manifest
        request = ClassifyRequest(
            image=item.image,
            text=item.text,
            task=manifest.task,
            version=manifest.version,
            top_k=top_k,
            explain=explain,
        )
        return self._labeller.classify(request)

    def label(self, items: Sequence[Item | ServiceError]) -> Answers:
        """Every label of each item, best first, or why it has none."""
        return self._labeller.label(items)


class ServiceAnswerer:
    """A running service, asked for one version all the time, whatever becomes live meanwhile.

    Raises ClientError or DataSetError.
    """

    def __init__(self, url: str, api_key: str | None, task: str | None, version: int | None) -> None:
        self._client = _client(url, api_key)
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="mora-classify")
        try:
            self._task, live = self._find(task, url)
        except BaseException:
            self._client.close()
            raise
        self._version = version or live

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def classify(self, item: Item, top_k: int, explain: bool) -> Classification:
        """What the service answers. Raises ClientError."""
        return self._client.classify(
            item.image, item.text, task=self._task, version=self._version, top_k=top_k, explain=explain
        )

    def label(self, items: Sequence[Item | ServiceError]) -> Answers:
        """Every label of each item, best first, or why it has none; many are asked for at the same time."""
        return list(self._pool.map(self._label, items))

    def _label(self, item: Item | ServiceError) -> Answer | ServiceError:
        if isinstance(item, ServiceError):
            return item
        ends = time.monotonic() + _PATIENCE_SECONDS
        wait_seconds = _FIRST_WAIT_SECONDS
        while True:
            try:
                return self.classify(item, _EVERY_LABEL, explain=False)
            except ClientError as error:
                if (refused := _refused(error)) is not None:
                    return refused
                wait_seconds = max(wait_seconds, error.retry_after_seconds)
                if not error.retryable or time.monotonic() + wait_seconds > ends:
                    raise
            if self._ended.wait(wait_seconds * random.uniform(1, 1.5)):  # noqa: S311 - no secret
                raise DataSetError("it was ended")
            wait_seconds *= 2

    def _find(self, task: str | None, url: str) -> tuple[str, int]:
        """The task and its version that answers."""
        live = {summary.task: summary.version for summary in self._client.tasks().tasks}
        if task is not None and task not in live:
            try:
                self._client.task(task)  # tells why a task that is there does not answer
            except ProblemError as error:
                if error.code != Code.UNKNOWN_TASK:
                    raise
        name = choose_task(task, sorted(live), url)
        return name, live[name]


def live_tasks(store: Store) -> list[str]:
    """The tasks of a store that have a live version."""
    return [task for task in store.tasks() if store.live(task) is not None]


def served_tasks(url: str, api_key: str | None) -> list[str]:
    """The tasks that a running service answers for. Raises ClientError or DataSetError."""
    with _client(url, api_key) as client:
        return [summary.task for summary in client.tasks().tasks]


def _client(url: str, api_key: str | None) -> Client:
    try:
        return Client(url, api_key)
    except ValueError as error:
        raise DataSetError(str(error)) from error


def _refused(error: ClientError) -> ServiceError | None:
    """The problem with one item, None where it is another one."""
    if not isinstance(error, ProblemError):
        return None
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and error.code is None:  # a proxy before the service
        return ServiceError(Code.BODY_TOO_LARGE, "The request is larger than the service's proxy lets through.")
    return ServiceError(Code(error.code), error.detail) if error.code in _OF_ITEMS else None
