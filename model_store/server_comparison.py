"""What a running service says of a task: the version it answers with, and what it refused."""

from __future__ import annotations

import json
from urllib.parse import quote, urlsplit

import urllib3
from pydantic import BaseModel, ValidationError
from urllib3.exceptions import HTTPError

from model_store.api_key import authorization
from model_store.errors import StoreError

_TIMEOUT_SECONDS = 10.0
_MAX_BYTES = 16 * 1024 * 1024


class Refusal(BaseModel):
    """A live version that failed the service's checks; `version` is None where `live` itself could not be read."""

    version: int | None
    reason: str


class ServerComparison(BaseModel):
    """The part of the service's `GET /tasks/{task}` that says which version answers."""

    version: int
    refused: Refusal | None


def compare_with_server(url: str, task: str, api_key: str | None = None) -> ServerComparison:
    """The comparison of the service at `url`, such as http://127.0.0.1:8000. Raises StoreError when there is none.

    No redirect is followed: the key is for this address alone.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise StoreError("--url takes the address of a service, such as http://127.0.0.1:8000")
    try:
        headers = authorization(api_key)
        with urllib3.PoolManager(headers=headers, timeout=_TIMEOUT_SECONDS, retries=False) as pool:
            address = f"{url.rstrip('/')}/tasks/{quote(task, safe='')}"
            response = pool.request("GET", address, redirect=False, preload_content=False)
            body = response.read(_MAX_BYTES)
        if response.status != 200:
            raise StoreError(f"{url} has no answer for {task}: {_detail(response.status, body)}")
        return ServerComparison.model_validate_json(body)
    except (HTTPError, ValueError) as error:
        problem = "it is no mora-serve" if isinstance(error, ValidationError) else str(error)
        raise StoreError(f"{url} does not tell about {task}: {problem}; is it the address of a service?") from error


def _detail(status: int, body: bytes) -> str:
    """The service's own words where it has any."""
    try:
        problem = json.loads(body)
        return f"{problem['code']}. {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"HTTP {status}"
