"""HTTP responses to requests that failed."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from service.api.problems import InferenceProblemDetails, problem_of
from service.errors import ServiceError

OPEN_INFERENCE = "/v2"  # prefix of the Open Inference Protocol's paths


def problem_response(
    error: ServiceError, request_id: str, headers: Mapping[str, str] | None = None, path: str = ""
) -> Response:
    """The response to a failed request, in the form of the API that its path belongs to."""
    problem = problem_of(error, request_id)
    if f"{path}/".startswith(f"{OPEN_INFERENCE}/"):
        problem = InferenceProblemDetails(**dict(problem), error=error.detail)
    all_headers = {**error.code.headers, **(headers or {})}
    if error.retry_after_seconds is not None:
        all_headers["Retry-After"] = str(error.retry_after_seconds)
    return Response(problem.model_dump_json(), problem.status, all_headers, "application/problem+json")
