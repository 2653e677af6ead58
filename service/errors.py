"""The errors of requests: one error class, and one table with the HTTP status of each code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple


class Code(StrEnum):
    """Every code a problem can carry."""

    BAD_JSON = "bad_json"
    BAD_MULTIPART = "bad_multipart"
    CONTENT_TYPE = "content_type"
    CONTENT_ENCODING = "content_encoding"
    BODY_TOO_LARGE = "body_too_large"
    EXTRA_FIELD = "extra_field"
    BAD_VALUE = "bad_value"
    BAD_TEXT = "bad_text"
    BAD_BASE64 = "bad_base64"
    MISSING_INPUT = "missing_input"
    TEXT_TOO_LARGE = "text_too_large"
    IMAGE_FORMAT = "image_format"
    IMAGE_TOO_MANY_PIXELS = "image_too_many_pixels"
    IMAGE_UNDECODABLE = "image_undecodable"
    UNKNOWN_TASK = "unknown_task"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_EXAMPLE = "unknown_example"
    NO_REPORT = "no_report"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BAD_HTTP = "bad_http"
    BAD_HOST = "bad_host"
    HEADERS_TOO_LARGE = "headers_too_large"
    UNAUTHORIZED = "unauthorized"
    RATE_LIMITED = "rate_limited"
    SLOW_CLIENT = "slow_client"
    QUEUE_FULL = "queue_full"
    DEADLINE_UNREACHABLE = "deadline_unreachable"
    DEADLINE = "deadline"
    NO_MODEL = "no_model"
    VERSION_REFUSED = "version_refused"
    STORE_UNREADABLE = "store_unreadable"
    STALLED = "stalled"
    DRAINING = "draining"
    MODEL_NONFINITE = "model_nonfinite"
    INTERNAL = "internal"


class Meaning(NamedTuple):
    """A code's HTTP status, title and headers, and its `reason` in the metrics if that is not the code itself."""

    status: HTTPStatus
    title: str
    reason: str | None = None
    headers: Mapping[str, str] = {}


MEANINGS: Mapping[Code, Meaning] = {
    Code.BAD_JSON: Meaning(HTTPStatus.BAD_REQUEST, "The body is not JSON"),
    Code.BAD_MULTIPART: Meaning(HTTPStatus.BAD_REQUEST, "The body is not multipart/form-data"),
    Code.CONTENT_TYPE: Meaning(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The content type is not supported"),
    Code.CONTENT_ENCODING: Meaning(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Compressed bodies are not supported"),
    Code.BODY_TOO_LARGE: Meaning(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    Code.EXTRA_FIELD: Meaning(HTTPStatus.UNPROCESSABLE_ENTITY, "The request has a field the service does not know"),
    Code.BAD_VALUE: Meaning(HTTPStatus.UNPROCESSABLE_ENTITY, "A field has an unsuitable value"),
    Code.BAD_TEXT: Meaning(HTTPStatus.UNPROCESSABLE_ENTITY, "The text is not valid UTF-8"),
    Code.BAD_BASE64: Meaning(HTTPStatus.UNPROCESSABLE_ENTITY, "The image is neither base64 nor a data: URI"),
    Code.MISSING_INPUT: Meaning(HTTPStatus.UNPROCESSABLE_ENTITY, "The item has neither image nor text"),
    Code.TEXT_TOO_LARGE: Meaning(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The text is too large"),
    Code.IMAGE_FORMAT: Meaning(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The image is not JPEG, PNG or WebP"),
    Code.IMAGE_TOO_MANY_PIXELS: Meaning(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The image has too many pixels", reason="pixels"
    ),
    Code.IMAGE_UNDECODABLE: Meaning(HTTPStatus.UNPROCESSABLE_ENTITY, "The image is damaged", reason="decode"),
    Code.UNKNOWN_TASK: Meaning(HTTPStatus.NOT_FOUND, "No such task is loaded"),
    Code.UNKNOWN_VERSION: Meaning(HTTPStatus.NOT_FOUND, "The task has no such version"),
    Code.UNKNOWN_EXAMPLE: Meaning(HTTPStatus.NOT_FOUND, "The task has no such example"),
    Code.NO_REPORT: Meaning(HTTPStatus.NOT_FOUND, "The version has no report"),
    Code.NOT_FOUND: Meaning(HTTPStatus.NOT_FOUND, "No such path"),
    Code.METHOD_NOT_ALLOWED: Meaning(HTTPStatus.METHOD_NOT_ALLOWED, "The path does not take this method"),
    Code.BAD_HTTP: Meaning(HTTPStatus.BAD_REQUEST, "The request is not HTTP/1.1", headers={"Connection": "close"}),
    Code.BAD_HOST: Meaning(HTTPStatus.BAD_REQUEST, "The Host header is missing or invalid"),
    Code.HEADERS_TOO_LARGE: Meaning(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large", headers={"Connection": "close"}
    ),
    Code.UNAUTHORIZED: Meaning(
        HTTPStatus.UNAUTHORIZED, "The request has no valid key", headers={"WWW-Authenticate": "Bearer"}
    ),
    Code.RATE_LIMITED: Meaning(HTTPStatus.TOO_MANY_REQUESTS, "The client asks too often"),
    Code.SLOW_CLIENT: Meaning(HTTPStatus.REQUEST_TIMEOUT, "The body came too slowly"),
    Code.QUEUE_FULL: Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "The service is at its limit"),
    Code.DEADLINE_UNREACHABLE: Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "The answer would come too late"),
    Code.DEADLINE: Meaning(HTTPStatus.GATEWAY_TIMEOUT, "The time for this request is over"),
    Code.NO_MODEL: Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "No task is loaded"),
    Code.VERSION_REFUSED: Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "The version failed its checks"),
    Code.STORE_UNREADABLE: Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "The store cannot be read"),
    Code.STALLED: Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "The encoders make no progress"),
    Code.DRAINING: Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "The service is about to stop"),
    Code.MODEL_NONFINITE: Meaning(HTTPStatus.INTERNAL_SERVER_ERROR, "The model gave no finite answer"),
    Code.INTERNAL: Meaning(HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed"),
}


class ServiceError(Exception):
    """The error of a request.

    Args:
        detail: one sentence for the client. It never contains input, a path or an exception's message.
    """

    def __init__(self, code: Code, detail: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds

    @property
    def reason(self) -> str:
        """The value of `mora_rejected_total{reason}`."""
        return MEANINGS[self.code].reason or self.code


def queue_full(seconds: float = 0.0) -> ServiceError:
    """The error for a full queue, whose work takes about so many seconds."""
    return ServiceError(
        Code.QUEUE_FULL, "Too many requests are waiting; try again.", retry_after_seconds=max(1, math.ceil(seconds))
    )


def deadline_unreachable(seconds: float) -> ServiceError:
    """The error for a request behind so many seconds of work, too many for its deadline."""
    detail = "Too much work is waiting for an answer in time; try again, or allow more with timeout_ms."
    return ServiceError(Code.DEADLINE_UNREACHABLE, detail, retry_after_seconds=max(1, math.ceil(seconds)))


def no_model() -> ServiceError:
    """The error while no task is loaded."""
    detail = "No task is loaded; publish one with mora-train, or activate one with mora-store."
    return ServiceError(Code.NO_MODEL, detail)


def unknown_version() -> ServiceError:
    """The error for a version that a loaded task does not have."""
    return ServiceError(Code.UNKNOWN_VERSION, "The task has no such version; leave it out for the live one.")


def internal() -> ServiceError:
    """The error for a failure that only the log describes."""
    return ServiceError(Code.INTERNAL, "The service failed; its log has the details under this request_id.")
