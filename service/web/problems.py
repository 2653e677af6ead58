"""HTTP responses to requests that failed."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from service.api.problems import InferenceProblemDetails, OpenAIProblem, ProblemDetails, openai_problem_of, problem_of
from service.errors import Code, ServiceError

OPEN_INFERENCE = "/v2"  # prefix of the Open Inference Protocol's paths
OPENAI = "/v1"  # prefix of the paths of OpenAI's API
_LASTING = {Code.DEADLINE, Code.VERSION_REFUSED, Code.MODEL_NONFINITE, Code.INTERNAL}  # would fail again


def problem_response(
    error: ServiceError, request_id: str, headers: Mapping[str, str] | None = None, path: str = ""
) -> Response:
    """The response to a failed request, in the form of the API that its path belongs to."""
    status = error.code.status
    problem: ProblemDetails | OpenAIProblem = problem_of(error, request_id)
    all_headers = {**error.code.headers, **(headers or {})}
    if _is_below(OPEN_INFERENCE, path):
        problem = InferenceProblemDetails(**dict(problem), error=error.detail)
    elif _is_below(OPENAI, path):
        problem = openai_problem_of(error)
        status = 400 if status == 422 else status  # as OpenAI's API answers
        if error.code in _LASTING:
            all_headers["X-Should-Retry"] = "false"  # OpenAI's clients retry every 5xx otherwise
    if error.retry_after_seconds is not None:
        all_headers["Retry-After"] = str(error.retry_after_seconds)
    return Response(problem.model_dump_json(), status, all_headers, problem.media_type)


def _is_below(prefix: str, path: str) -> bool:
    return f"{path}/".startswith(f"{prefix}/")
