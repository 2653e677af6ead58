"""A running service that answers `mora-serve classify --url`."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from service.api.answers import Answer, Classification
from service.api.item import Item
from service.client import Client, ClientError, ProblemError
from service.errors import Code, ServiceError
from service.labelling.rows import DataSetError, choose_task

MAX_WAIT_SECONDS = 60.0  # how long an item waits for a service that is away or busy; then the work ends
FIRST_WAIT_SECONDS = 1.0
_MAX_IN_FLIGHT = 16
_ALL_LABELS = 10**9
_ITEM_CODES = {  # codes that concern one item; with any other, the next item would fail as well
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


class ServiceAnswerer:
    """A running service, which is asked for the same version throughout, even if another one becomes live.

    Raises ClientError or DataSetError.
    """

    def __init__(self, url: str, api_key: str | None, task: str | None, version: int | None) -> None:
        self._client = open_client(url, api_key)
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(_MAX_IN_FLIGHT, thread_name_prefix="mora-classify")
        try:
            self._task, live = self._find(task, url)
        except BaseException:
            self._client.close()
            raise
        self._version = version or live

    def classify(self, item: Item, top_k: int, explain: bool) -> Classification:
        """The service's answer. Raises ClientError."""
        return self._client.classify(
            item.image, item.text, task=self._task, version=self._version, top_k=top_k, explain=explain
        )

    def label(self, items: Sequence[Item | ServiceError]) -> list[Answer | ServiceError]:
        """Every label of each item, best first, or why it has none; asks for several items at the same time."""
        return list(self._pool.map(self._label, items))

    def close(self) -> None:
        """End the threads and close the connections."""
        self._closed.set()
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def _label(self, item: Item | ServiceError) -> Answer | ServiceError:
        if isinstance(item, ServiceError):
            return item
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        wait_seconds = FIRST_WAIT_SECONDS
        while True:
            try:
                return self.classify(item, _ALL_LABELS, explain=False)
            except ClientError as error:
                if (refusal := _refusal(error)) is not None:
                    return refusal
                wait_seconds = max(wait_seconds, error.retry_after_seconds)
                if not error.retryable or time.monotonic() + wait_seconds > deadline:
                    raise
            if self._closed.wait(wait_seconds * random.uniform(1, 1.5)):  # noqa: S311 - no secret
                raise DataSetError("the work was ended")
            wait_seconds *= 2

    def _find(self, task: str | None, url: str) -> tuple[str, int]:
        """The task and its live version."""
        live = {summary.task: summary.version for summary in self._client.tasks().tasks}
        if task is not None and task not in live:
            try:
                self._client.task(task)  # raises the reason if the service has the task and does not serve it
            except ProblemError as error:
                if error.code != Code.UNKNOWN_TASK:
                    raise
        name = choose_task(task, sorted(live), url)
        return name, live[name]


def open_client(url: str, api_key: str | None) -> Client:
    """A client of the service. Raises DataSetError if the URL or the key is malformed."""
    try:
        return Client(url, api_key)
    except ValueError as error:
        raise DataSetError(str(error)) from error


def _refusal(error: ClientError) -> ServiceError | None:
    """The problem with this one item, or None if the error is of another kind."""
    if not isinstance(error, ProblemError):
        return None
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and error.code is None:  # from a proxy
        return ServiceError(Code.BODY_TOO_LARGE, "The request is larger than the service's proxy lets through.")
    return ServiceError(Code(error.code), error.detail) if error.code in _ITEM_CODES else None
