"""The errors of loading an intact version, in addition to the errors of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from model_store import StoreError


class RefusedError(Exception):
    """The version cannot be served.

    `reason` is one word for logs: `precision`, `signature`, `tokenizer`, `head`, `golden_mismatch`, or `load` for an
    unexpected error.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def reason_of(error: StoreError | RefusedError) -> str:
    """The error in one word."""
    return str(getattr(error, "reason", "missing"))


def is_final(error: StoreError | RefusedError) -> bool:
    """Whether every attempt to load the same bytes fails. An error of the disk may go away."""
    return isinstance(error, RefusedError) and error.reason != "load"


@contextmanager
def refusing(reason: str) -> Iterator[None]:
    """Turn every exception of the block into a RefusedError: the libraries that open a model raise any kind."""
    try:
        yield
    except (RefusedError, StoreError):
        raise
    except Exception as error:
        raise RefusedError(reason, f"{type(error).__name__}: {error}") from error
