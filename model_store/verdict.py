"""What a running service says of a task: the version it answers with, and what it refused."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ValidationError

from model_store.errors import StoreError

_TIMEOUT_SECONDS = 10.0
_MAX_BYTES = 16 * 1024 * 1024


class Refusal(BaseModel):
    """A live version that failed the service's checks; `version` is None where `live` itself could not be read."""

    version: int | None
    reason: str


class Verdict(BaseModel):
    """The part of the service's `GET /tasks/{task}` that says which version answers."""

    version: int
    refused: Refusal | None


def ask(url: str, task: str) -> Verdict:
    """The verdict of the service at `url`, such as http://127.0.0.1:8000. Raises StoreError when there is none."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise StoreError("--url takes the address of a service, such as http://127.0.0.1:8000")
    try:
        with urllib.request.urlopen(  # noqa: S310
            f"{url.rstrip('/')}/tasks/{quote(task, safe='')}", timeout=_TIMEOUT_SECONDS
        ) as response:
            return Verdict.model_validate_json(response.read(_MAX_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            raise StoreError(f"{url} has no answer for {task}: {_detail(error)}") from error
    except (OSError, HTTPException, ValueError) as error:
        problem = "it is no mora-serve" if isinstance(error, ValidationError) else str(error)
        raise StoreError(f"{url} does not tell about {task}: {problem}") from error


def _detail(error: urllib.error.HTTPError) -> str:
    """The service's own words where it has any."""
    try:
        problem = json.loads(error.read(_MAX_BYTES))
        return f"{problem['code']}. {problem['detail']}"
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"
