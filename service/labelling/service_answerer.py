"""The answerer of `mora-serve classify --url`: a running service."""

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

MAX_WAIT_SECONDS = 60.0  # of an item, for a service that is unreachable or busy; then the command fails
FIRST_WAIT_SECONDS = 1.0
_MAX_IN_FLIGHT = 16
_ALL_LABELS = 10**9
_ITEM_CODES = {  # errors of one item; after any other error, the next item would fail too
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
    """A running service. Every request names the same version, even if another version becomes live.

    Raises ClientError, DataSetError, or ValueError if the URL or the key is malformed.
    """

    def __init__(self, url: str, api_key: str | None, task: str | None, version: int | None) -> None:
        self._client = Client(url, api_key)
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(_MAX_IN_FLIGHT, thread_name_prefix="mora-classify")
        try:
            self._task, live_version = self._find(task, url)
        except BaseException:
            self._client.close()
            raise
        self._version = version or live_version

    def classify(self, item: Item, top_k: int, explain: bool) -> Classification:
        """The service's answer. Raises ClientError."""
        return self._client.classify(
            item.image, item.text, task=self._task, version=self._version, top_k=top_k, explain=explain
        )

    def label(self, items: Sequence[Item | ServiceError]) -> list[Answer | ServiceError]:
        """The answer to each item with all labels, best first, or its error. Several requests run at the same time."""
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
                raise DataSetError("the command was stopped")
            wait_seconds *= 2

    def _find(self, task: str | None, url: str) -> tuple[str, int]:
        """The task and its live version. Raises ClientError or DataSetError."""
        live = {summary.task: summary.version for summary in self._client.tasks().tasks}
        if task is not None and task not in live:
            try:
                self._client.task(task)  # raises the reason why the service does not serve it
            except ProblemError as error:
                if error.code != Code.UNKNOWN_TASK:
                    raise
        name = choose_task(task, sorted(live), url)
        return name, live[name]


def _refusal(error: ClientError) -> ServiceError | None:
    """The error of this item alone, or None if the error concerns every item."""
    if not isinstance(error, ProblemError):
        return None
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and error.code is None:  # of a proxy
        return ServiceError(Code.BODY_TOO_LARGE, "The request is larger than the service's proxy lets through.")
    return ServiceError(Code(error.code), error.detail) if error.code in _ITEM_CODES else None
