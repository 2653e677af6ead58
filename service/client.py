"""A client of the service for programs in Python.

It asks again where that may help, after a wait and within a budget, so that a service in trouble is not asked three
times as often as one that is well. urllib3's own `Retry` knows neither a budget nor the time left for a call, nor what
a problem's code says, so the loop is here; connections, timeouts and `Retry-After` are urllib3's.
"""

from __future__ import annotations

import base64
import json
import random
import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from time import monotonic, sleep
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import urllib3
from pydantic import BaseModel, ValidationError
from urllib3.exceptions import HTTPError, InvalidHeader, LocationParseError, SSLError

from model_store.api_key import authorization
from service.api.answers import BatchClassification, Classification, Embedding, TaskDetail, TaskList
from service.api.requests import Input
from service.errors import Code

Form = TypeVar("Form", bound=BaseModel)
_CONNECT_SECONDS = 5.0
_MAX_IDLE_CONNECTIONS = 32
_FIRST_BACKOFF_SECONDS, _MAX_DOUBLINGS = 0.2, 5
_PASSING_STATUSES = {429, 502, 503, 504}
_LASTING_CODES = {Code.DEADLINE, Code.VERSION_REFUSED}  # the next answer would be the same
_REQUEST_EARNS, _RETRY_COSTS, _RESERVE = 1, 10, 100  # retries for a tenth of the requests, and 10 at first


class ClientError(Exception):
    """A call that got no answer. The message holds neither the API key nor what was sent.

    Attributes:
        retryable: whether the same call may be answered later.
        retry_after_seconds: how long the service asks to be left alone, 0 where it does not say.
    """

    def __init__(self, message: str, retryable: bool, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds


class NoAnswerError(ClientError):
    """Nothing came back in time, or nothing that a mora-serve would say."""


class ProblemError(ClientError):
    """The service, or a proxy before it, answered with a problem.

    Attributes:
        status: of HTTP.
        code: one of `service.errors.Code`, or a later version's; None where the service did not answer itself.
        detail: one sentence.
        request_id: finds the request in the service's log; None where `code` is.
    """

    def __init__(
        self, status: int, code: str | None, detail: str, request_id: str | None, retry_after_seconds: float = 0.0
    ) -> None:
        retryable = status in _PASSING_STATUSES and code not in _LASTING_CODES
        super().__init__(f"{status} {code or 'without a code'}: {detail}", retryable, retry_after_seconds)
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id


class RetryBudget:
    """Retries for a tenth of the requests, and a reserve of 10 that requests fill up again.

    Over any n requests there are at most 1.1 n + 10 attempts, whatever fails. The reserve is what a program has that
    asks once; it is bounded so that a quiet week does not pay for a storm.
    """

    def __init__(self) -> None:
        self._tokens = _RESERVE
        self._lock = threading.Lock()

    def deposit(self) -> None:
        """A request begins."""
        with self._lock:
            self._tokens = min(_RESERVE, self._tokens + _REQUEST_EARNS)

    def withdraw(self) -> bool:
        """Whether it may be sent once more."""
        with self._lock:
            if self._tokens < _RETRY_COSTS:
                return False
            self._tokens -= _RETRY_COSTS
            return True


class Client:
    """A service at `url`, such as http://127.0.0.1:8000. Threads may share it, and should: it holds the retry budget.

    Connections that fail, 429, 502, 503 and 504 are tried again up to `attempts` times in all, after what `Retry-After`
    says and a random wait (full jitter) whose bound doubles. Classification changes nothing, so it may be asked twice.
    Redirects are not followed: the key is for this address alone. Every method raises ClientError.

    Args:
        api_key: one of those that `mora-serve hash-key` makes; None for a service that needs none.
        timeout_seconds: for a call with all its attempts and waits; one that asks to wait longer fails at once. An
            answer that never stops trickling may take longer.
        attempts: 1 never tries again.

    Raises:
        ValueError: for what is no address of a service, or no key; never repeats either.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout_seconds: float = 30.0, attempts: int = 3) -> None:
        _check_address(url)
        if timeout_seconds <= 0 or attempts < 1:
            raise ValueError("timeout_seconds is above 0, attempts at least 1")
        self._url = url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._attempts = attempts
        self._budget = RetryBudget()
        headers = {"Content-Type": "application/json", **authorization(api_key)}
        self._pool = urllib3.PoolManager(maxsize=_MAX_IDLE_CONNECTIONS, headers=headers, retries=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are idle."""
        self._pool.clear()

    def classify(
        self,
        image: bytes | None = None,
        text: str | None = None,
        *,
        task: str | None = None,
        top_k: int = 5,
        version: int | None = None,
        explain: bool = False,
        timeout_ms: int | None = None,
    ) -> Classification:
        """Label one item from its image (a JPEG, PNG or WebP file), its text, or both.

        Args:
            task: may be left out when exactly one task is loaded.
            top_k: how many labels to answer with, best first.
            version: pins a version; the live one when left out.
            explain: have the answer say what each modality added to each label.
            timeout_ms: how long the service may take for one attempt, by default its `MORA_TIMEOUT_MS`.
        """
        fields: dict[str, object] = {"task": task, "top_k": top_k, "version": version, "timeout_ms": timeout_ms}
        if explain:
            fields["explain"] = True  # only then, so that a service of before knows every field
        return self._call(Classification, "/classify", {**_item(image, text), **fields})

    def embed(
        self,
        image: bytes | None = None,
        text: str | None = None,
        *,
        task: str | None = None,
        version: int | None = None,
        timeout_ms: int | None = None,
    ) -> Embedding:
        """The features of one item, not normalised; the arguments are those of `classify`."""
        fields = {"task": task, "version": version, "timeout_ms": timeout_ms}
        return self._call(Embedding, "/embed", {**_item(image, text), **fields})

    def classify_batch(
        self, inputs: Sequence[Input], tasks: Sequence[str], *, top_k: int = 5, timeout_ms: int | None = None
    ) -> BatchClassification:
        """Label several items in each of several tasks: a row for each input, in it a cell for each task.

        A cell is an answer or the problem with this cell alone, which is not tried again.
        """
        items = [_item(given.image, given.text) for given in inputs]
        fields = {"inputs": items, "tasks": [*tasks], "top_k": top_k, "timeout_ms": timeout_ms}
        return self._call(BatchClassification, "/classify/batch", fields)

    def tasks(self) -> TaskList:
        """Every task that is loaded."""
        return self._call(TaskList, "/tasks")

    def task(self, name: str) -> TaskDetail:
        """What is known about the live version of a task."""
        return self._call(TaskDetail, f"/tasks/{quote(name, safe='')}")

    def _call(self, form: type[Form], path: str, fields: Mapping[str, object] | None = None) -> Form:
        body = None if fields is None else json.dumps(fields).encode()
        answer = self._ask(path, body)
        try:
            return form.model_validate_json(answer)
        except ValidationError:
            message = f"{self._url} answers, but not as a mora-serve of this version does"
        raise NoAnswerError(message, retryable=False)  # outside, so that no traceback shows what came instead

    def _ask(self, path: str, body: bytes | None) -> bytes:
        """The body of the answer to a GET, or to a POST where there is a body."""
        self._budget.deposit()
        ends = monotonic() + self._timeout_seconds
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._attempt(path, body, max(ends - monotonic(), 0.001))
            except ClientError as error:
                wait_seconds = error.retry_after_seconds + random.uniform(0, _backoff_seconds(attempt))  # noqa: S311
                is_last = attempt == self._attempts or monotonic() + wait_seconds >= ends
                if not error.retryable or is_last or not self._budget.withdraw():
                    raise
            sleep(wait_seconds)

    def _attempt(self, path: str, body: bytes | None, seconds: float) -> bytes:
        timeout = urllib3.Timeout(connect=min(_CONNECT_SECONDS, seconds), total=seconds)
        method = "GET" if body is None else "POST"
        try:
            response = self._pool.request(method, self._url + path, body=body, timeout=timeout, redirect=False)
        except HTTPError as error:
            message = f"{self._url} gives no answer: {error}"
            raise NoAnswerError(message, retryable=not isinstance(error, SSLError)) from error
        if response.status != HTTPStatus.OK:
            raise _problem(response)
        return response.data


def _check_address(url: str) -> None:
    try:
        parts = urllib3.util.parse_url(url)
    except LocationParseError:
        parts = urllib3.util.Url()
    if parts.scheme not in ("http", "https") or not parts.host or parts.auth or parts.query or parts.fragment:
        raise ValueError("url is the address of a service, such as http://127.0.0.1:8000, without a password")


def _item(image: bytes | None, text: str | None) -> dict[str, object]:
    return {"image": None if image is None else base64.b64encode(image).decode(), "text": text}


def _backoff_seconds(attempt: int) -> float:
    return _FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS)


def _problem(response: urllib3.BaseHTTPResponse) -> ProblemError:
    """What a response that is no answer says, in the service's own words where it has any."""
    try:
        told = json.loads(response.data)
        code, detail, request_id = (str(told[name]) for name in ("code", "detail", "request_id"))
    except (ValueError, KeyError, TypeError):
        return ProblemError(response.status, None, "it is not the service that answers", None, _retry_after(response))
    return ProblemError(response.status, code, detail, request_id, _retry_after(response))


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    try:
        return float(urllib3.Retry().get_retry_after(response) or 0.0)
    except (InvalidHeader, ValueError, OverflowError):  # no such date, no such number
        return 0.0
