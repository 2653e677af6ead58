"""HTTP requests to a running service, with timeouts and retries.

A failed request is repeated if that may help, after a wait and within a budget, so that clients do not multiply the
load on an overloaded service. urllib3's `Retry` supports neither a budget, nor a deadline for the whole call, nor the
codes of problems, so this module has its own loop. Connections, timeouts and `Retry-After` are urllib3's.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping
from http import HTTPStatus
from time import monotonic, sleep
from typing import Self, TypeVar

import urllib3
from pydantic import BaseModel, ValidationError
from urllib3.exceptions import HTTPError, InvalidHeader, LocationParseError, SSLError

from model_store.api_key import authorization

Form = TypeVar("Form", bound=BaseModel)
_CONNECT_SECONDS = 5.0
_MAX_IDLE_CONNECTIONS = 32
_FIRST_BACKOFF_SECONDS, _MAX_DOUBLINGS = 0.2, 5
_RETRYABLE_STATUSES = {429, 502, 503, 504}
_LASTING_CODES = {"deadline", "version_refused"}  # the next answer would be the same
MAX_ANSWER_BYTES = 2**25  # as unpacked
_MAX_PROBLEM_BYTES, _PIECE_BYTES = 2**16, 2**16
_TOKENS_PER_REQUEST, _TOKENS_PER_RETRY, _MAX_TOKENS = 1, 10, 100  # a retry for every ten requests, and a reserve of 10


class ClientError(Exception):
    """A call without an answer. The message contains neither the API key nor the request.

    Attributes:
        retryable: whether the same call may succeed later.
        retry_after_seconds: the wait that the service asks for, 0 if it names none.
    """

    def __init__(self, message: str, retryable: bool, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds


class NoAnswerError(ClientError):
    """No response in time, or a response that is not from a mora-serve."""


class ProblemError(ClientError):
    """An error response of the service, or of a proxy in front of it.

    Attributes:
        status: the HTTP status.
        code: one of `service.errors.Code`, or a later version's code; None if the service itself did not respond.
        detail: one sentence.
        request_id: identifies the request in the service's log; None if `code` is None.
    """

    def __init__(
        self, status: int, code: str | None, detail: str, request_id: str | None, retry_after_seconds: float = 0.0
    ) -> None:
        retryable = status in _RETRYABLE_STATUSES and code not in _LASTING_CODES
        super().__init__(f"{status} {code or 'without a code'}: {detail}", retryable, retry_after_seconds)
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id


class RetryBudget:
    """One retry for every ten requests, and a reserve of 10 that requests refill.

    Over any n requests there are at most 1.1 n + 10 attempts. The reserve serves programs with few requests. It is
    bounded so that quiet times do not save up retries for a storm.
    """

    def __init__(self) -> None:
        self._tokens = _MAX_TOKENS
        self._lock = threading.Lock()

    def deposit(self) -> None:
        """Count a new request."""
        with self._lock:
            self._tokens = min(_MAX_TOKENS, self._tokens + _TOKENS_PER_REQUEST)

    def withdraw(self) -> bool:
        """Take a retry; False if the budget has none."""
        with self._lock:
            if self._tokens < _TOKENS_PER_RETRY:
                return False
            self._tokens -= _TOKENS_PER_RETRY
            return True


class ServiceConnection:
    """A service at `url`, such as http://127.0.0.1:8000. Threads should share it, because it has one retry budget.

    Failed connections and the statuses 429, 502, 503 and 504 are retried, up to `attempts` attempts in total, after the
    time in `Retry-After` and a random wait (full jitter) whose maximum doubles. Requests must change nothing on the
    service. Redirects are not followed, because the key is for this address only.

    Args:
        api_key: a key that `mora-serve hash-key` has made; None for a service without keys.
        timeout_seconds: for a call with all its attempts and waits. A call that must wait longer fails at once. A
            call whose answer arrives very slowly may take twice as long.
        attempts: 1 disables retries.

    Raises:
        ValueError: for an invalid address or key; the message repeats neither.
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.clear()

    def call(self, form: type[Form], path: str, fields: Mapping[str, object] | None = None) -> Form:
        """The validated answer to a GET, or to a POST of the fields as JSON. Raises ClientError."""
        content = self.request(path, fields)
        try:
            return form.model_validate_json(content)
        except ValidationError:
            message = f"{self._url} answers, but not as a mora-serve of this version does"
        raise NoAnswerError(message, retryable=False)  # outside the block, so that no traceback shows the content

    def request(self, path: str, fields: Mapping[str, object] | None = None) -> bytes:
        """The body of the answer to a GET, or to a POST of the fields as JSON. Raises ClientError."""
        body = None if fields is None else json.dumps(fields).encode()
        self._budget.deposit()
        deadline = monotonic() + self._timeout_seconds
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._attempt(path, body, max(deadline - monotonic(), 0.001))
            except ClientError as error:
                wait_seconds = error.retry_after_seconds + random.uniform(0, _backoff_seconds(attempt))  # noqa: S311
                is_last = attempt == self._attempts or monotonic() + wait_seconds >= deadline
                if not error.retryable or is_last or not self._budget.withdraw():
                    raise
            sleep(wait_seconds)

    def _attempt(self, path: str, body: bytes | None, seconds: float) -> bytes:
        deadline = monotonic() + seconds
        timeout = urllib3.Timeout(connect=min(_CONNECT_SECONDS, seconds), total=seconds)
        method = "GET" if body is None else "POST"
        try:
            response = self._pool.request(
                method, self._url + path, body=body, timeout=timeout, redirect=False, preload_content=False
            )
            is_answer = response.status == HTTPStatus.OK
            content = self._read(response, MAX_ANSWER_BYTES if is_answer else _MAX_PROBLEM_BYTES, deadline)
        except HTTPError as error:
            message = f"{self._url} gives no answer: {error}"
            raise NoAnswerError(message, retryable=not isinstance(error, SSLError)) from error
        if not is_answer:
            raise _problem(response, content)
        if len(content) > MAX_ANSWER_BYTES:
            message = f"{self._url} sends an answer of over {MAX_ANSWER_BYTES >> 20} MiB, which no mora-serve does"
            raise NoAnswerError(message, retryable=False)
        return content

    def _read(self, response: urllib3.BaseHTTPResponse, max_bytes: int, deadline: float) -> bytes:
        """The content of a response. The connection ends with the first piece that exceeds the limit.

        Raises HTTPError, or NoAnswerError at the deadline.
        """
        content = bytearray()
        while piece := response.read1(_PIECE_BYTES, decode_content=True):
            content += piece
            if len(content) > max_bytes:
                response.close()
                break
            if monotonic() > deadline:
                response.close()
                raise NoAnswerError(f"{self._url} gives no whole answer in time", retryable=True)
        return bytes(content)


def _check_address(url: str) -> None:
    try:
        parts = urllib3.util.parse_url(url)
    except LocationParseError:
        parts = urllib3.util.Url()
    if parts.scheme not in ("http", "https") or not parts.host or parts.auth or parts.query or parts.fragment:
        raise ValueError("url is the address of a service, such as http://127.0.0.1:8000, without a password")


def _backoff_seconds(attempt: int) -> float:
    return _FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS)


def _problem(response: urllib3.BaseHTTPResponse, content: bytes) -> ProblemError:
    """The error of a response, from its problem details if it has them."""
    try:
        fields = json.loads(content)
        code, detail, request_id = (str(fields[name]) for name in ("code", "detail", "request_id"))
    except (ValueError, KeyError, TypeError, RecursionError):
        detail = "the response is not the service's"
        return ProblemError(response.status, None, detail, None, _retry_after(response))
    return ProblemError(response.status, code, detail, request_id, _retry_after(response))


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    try:
        return float(urllib3.Retry().get_retry_after(response) or 0.0)
    except (InvalidHeader, ValueError, OverflowError):  # neither a valid date nor a valid number
        return 0.0
