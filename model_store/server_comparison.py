"""The version of a task that a running service serves, for comparison with the store's live version."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from pydantic import BaseModel

from model_store.api_key import VARIABLE
from model_store.errors import StoreError
from model_store.service_connection import ClientError, ProblemError, ServiceConnection

_TIMEOUT_SECONDS = 10.0


class RefusedVersion(BaseModel):
    """A live version that failed the service's checks; `version` is None if the store's `live` is unreadable."""

    version: int | None
    reason: str


class ServerComparison(BaseModel):
    """The fields of the service's `GET /tasks/{task}` that name the served version and the refused one."""

    version: int
    refused: RefusedVersion | None


def compare_with_server(url: str, task: str, api_key: str | None = None) -> ServerComparison:
    """Ask the service at `url`, such as http://127.0.0.1:8000. Raises StoreError if it does not answer."""
    try:
        with ServiceConnection(url, api_key, _TIMEOUT_SECONDS, attempts=1) as service:
            return service.call(ServerComparison, f"/tasks/{quote(task, safe='')}")
    except ProblemError as error:
        cure = f" Give a key with --api-key-file or {VARIABLE}" if error.status == HTTPStatus.UNAUTHORIZED else ""
        raise StoreError(f"{url} has no answer for {task}: {error}{cure}") from error
    except (ClientError, ValueError) as error:
        raise StoreError(f"--url: {error}") from error
