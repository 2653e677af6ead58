"""The bodies of error responses."""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from service.errors import Code, ServiceError

ErrorType = Literal["invalid_request_error", "rate_limit_error", "server_error"]


class ProblemDetails(BaseModel):
    """An error as the client sees it (RFC 9457)."""

    media_type: ClassVar = "application/problem+json"

    type: str = Field(examples=["urn:mora:problem:missing_input"])
    title: str
    status: int
    detail: str
    code: Code
    request_id: str


class InferenceProblemDetails(ProblemDetails):
    """An error for clients of the Open Inference Protocol, which read only `error`."""

    error: str


class OpenAIErrorDetails(BaseModel):
    """An error as OpenAI's clients see it."""

    message: str
    type: ErrorType
    param: str | None = Field(description="The field of the body that the error is about, if that is known.")
    code: Code


class OpenAIProblem(BaseModel):
    """An error for OpenAI's clients."""

    media_type: ClassVar = "application/json"

    error: OpenAIErrorDetails


def problem_of(error: ServiceError, request_id: str) -> ProblemDetails:
    """The body of the response to an error."""
    return ProblemDetails(
        type=f"urn:mora:problem:{error.code}",
        title=error.code.problem_title,
        status=error.code.status,
        detail=error.detail,
        code=error.code,
        request_id=request_id,
    )


def openai_problem_of(error: ServiceError) -> OpenAIProblem:
    """The body of the response to an error, for OpenAI's clients."""
    is_client_error = error.code.status < HTTPStatus.INTERNAL_SERVER_ERROR
    kind: ErrorType = "invalid_request_error" if is_client_error else "server_error"
    if error.code is Code.RATE_LIMITED:
        kind = "rate_limit_error"
    param = error.field if is_client_error else None
    return OpenAIProblem(error=OpenAIErrorDetails(message=error.detail, type=kind, param=param, code=error.code))
