"""The errors of requests: one error class, and one table of all codes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Self

from model_store.items.formats import FORMATS


class Code(StrEnum):
    """Every code that a problem can have, with its HTTP status and title.

    `reason` is the value of `mora_rejected_total{reason}`, by default the code. `headers` are added to the response.
    """

    status: int
    problem_title: str  # `title` is a method of every string
    reason: str
    headers: Mapping[str, str]

    def __new__(  # the defaults are for `Code(value)`, which looks a code up
        cls, code: str, status: int = 0, title: str = "", reason: str = "", headers: Mapping[str, str] | None = None
    ) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.status, member.problem_title = status, title
        member.reason, member.headers = reason or code, headers or {}
        return member

    BAD_JSON = "bad_json", 400, "The body is not JSON"
    BAD_MULTIPART = "bad_multipart", 400, "The body is not multipart/form-data"
    CONTENT_TYPE = "content_type", 415, "The content type is not supported"
    CONTENT_ENCODING = "content_encoding", 415, "Compressed bodies are not supported"
    BODY_TOO_LARGE = "body_too_large", 413, "The body is too large"
    EXTRA_FIELD = "extra_field", 422, "The request has a field the service does not know"
    BAD_VALUE = "bad_value", 422, "A field has an unsuitable value"
    BAD_TEXT = "bad_text", 422, "The text is not valid UTF-8"
    BAD_BASE64 = "bad_base64", 422, "The image is neither base64 nor a data: URI"
    NO_LABELS = "no_labels", 422, "The task has no labels"
    COVERAGE_UNSUPPORTED = "coverage_unsupported", 422, "The version does not support this coverage"
    MISSING_INPUT = "missing_input", 422, "The item has neither image nor text"
    TEXT_TOO_LARGE = "text_too_large", 413, "The text is too large"
    IMAGE_FORMAT = "image_format", 415, f"The image is not {FORMATS}"
    IMAGE_TOO_MANY_PIXELS = "image_too_many_pixels", 413, "The image has too many pixels", "pixels"
    IMAGE_UNDECODABLE = "image_undecodable", 422, "The image is damaged", "decode"
    UNKNOWN_TASK = "unknown_task", 404, "No such task is loaded"
    UNKNOWN_VERSION = "unknown_version", 404, "The task has no such version"
    UNKNOWN_EXAMPLE = "unknown_example", 404, "The task has no such example"
    NO_EXAMPLES = "no_examples", 404, "The version has no examples"
    NO_REPORT = "no_report", 404, "The version has no report"
    NOT_FOUND = "not_found", 404, "No such path"
    METHOD_NOT_ALLOWED = "method_not_allowed", 405, "The path does not take this method"
    BAD_HTTP = "bad_http", 400, "The request is not HTTP/1.1", "", {"Connection": "close"}
    BAD_HOST = "bad_host", 400, "The Host header is missing, invalid or not allowed"
    HEADERS_TOO_LARGE = "headers_too_large", 431, "The headers are too large", "", {"Connection": "close"}
    UNAUTHORIZED = "unauthorized", 401, "The request has no valid key", "", {"WWW-Authenticate": "Bearer"}
    FORBIDDEN = "forbidden", 403, "The key does not allow this"
    RATE_LIMITED = "rate_limited", 429, "The client asks too often"
    SLOW_CLIENT = "slow_client", 408, "The body came too slowly"
    QUEUE_FULL = "queue_full", 503, "The service is at its limit"
    DEADLINE_UNREACHABLE = "deadline_unreachable", 503, "The answer would come too late"
    DEADLINE = "deadline", 504, "The time for this request is over"
    NO_MODEL = "no_model", 503, "No task is loaded"
    VERSION_REFUSED = "version_refused", 503, "The version failed its checks"
    STORE_UNREADABLE = "store_unreadable", 503, "The store cannot be read"
    STALLED = "stalled", 503, "The encoders make no progress"
    DRAINING = "draining", 503, "The service is about to stop"
    MODEL_NONFINITE = "model_nonfinite", 500, "The model gave no finite answer"
    INTERNAL = "internal", 500, "The service failed"


class ServiceError(Exception):
    """The error of a request.

    Args:
        detail: one sentence for the client. It never contains input, a path or an exception's message.
        field: the field of the body that the error is about, if that is known.
    """

    def __init__(
        self, code: Code, detail: str, retry_after_seconds: int | None = None, field: str | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        self.field = field


@contextmanager
def about(field: str) -> Iterator[None]:
    """Errors in the block are about this field of the body, unless they name another."""
    try:
        yield
    except ServiceError as error:
        error.field = error.field or field
        raise


def at_item(index: int, error: ServiceError) -> ServiceError:
    """The error with the index of its item."""
    return ServiceError(error.code, f"Item {index}: {error.detail}", error.retry_after_seconds, error.field)


def forbidden_task() -> ServiceError:
    """The error for a task that the client's key may not use, whether it exists or not."""
    return ServiceError(Code.FORBIDDEN, "The key does not allow this task; GET /tasks lists those that it allows.")


def queue_full(seconds: float = 0.0) -> ServiceError:
    """The error for a full queue, whose work takes about `seconds`."""
    return ServiceError(Code.QUEUE_FULL, "Too many requests are waiting; try again.", max(1, math.ceil(seconds)))


def deadline_unreachable(seconds: float) -> ServiceError:
    """The error for a request whose deadline comes before `seconds` of earlier work are done."""
    detail = "The requests in the queue take longer than the time limit; try again, or set a longer timeout_ms."
    return ServiceError(Code.DEADLINE_UNREACHABLE, detail, max(1, math.ceil(seconds)))


def cut_by_drain() -> ServiceError:
    """The error for a request that is not answered before the service stops."""
    detail = "The service stops before the answer is ready; send the request again, to another instance."
    return ServiceError(Code.DRAINING, detail, retry_after_seconds=1)


def no_model() -> ServiceError:
    """The error while no task is loaded."""
    detail = "No task is loaded; publish one with mora-train, or activate one with mora-store."
    return ServiceError(Code.NO_MODEL, detail)


def unknown_version() -> ServiceError:
    """The error for a version that a loaded task does not have."""
    detail = "The task has no such version; leave it out for the live one."
    return ServiceError(Code.UNKNOWN_VERSION, detail, field="version")


def internal() -> ServiceError:
    """The error for a failure that only the log describes."""
    return ServiceError(Code.INTERNAL, "The service failed; its log has the details under this request_id.")
