"""The bodies of error responses."""

from __future__ import annotations

from pydantic import BaseModel, Field

from service.errors import Code, ServiceError


class ProblemDetails(BaseModel):
    """An error as the client sees it (RFC 9457)."""

    type: str = Field(examples=["urn:mora:problem:missing_input"])
    title: str
    status: int
    detail: str
    code: Code
    request_id: str


class InferenceProblemDetails(ProblemDetails):
    """An error for clients of the Open Inference Protocol, which read only `error`."""

    error: str


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
