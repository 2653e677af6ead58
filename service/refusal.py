"""Why a version is not served: the reasons a load ends with, besides those of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from model_store import StoreError


class RefusedError(Exception):
    """A version that is not served.

    `reason` is a short word for logs: `signature`, `tokenizer`, `head`, `canary`, or a reason of the store's.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@contextmanager
def refusing(reason: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a RefusedError; the libraries that open a model raise bare exceptions."""
    try:
        yield
    except (RefusedError, StoreError):
        raise
    except Exception as error:
        raise RefusedError(reason, f"{type(error).__name__}: {error}") from error
