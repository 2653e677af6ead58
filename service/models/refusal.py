"""Errors of loading a version, besides those of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from model_store import StoreError


class RefusedError(Exception):
    """A version that is not served.

    `reason` is a short word for logs: `precision`, `signature`, `tokenizer`, `head`, `golden_mismatch`, or `load` for
    an unexpected error.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def reason_of(error: StoreError | RefusedError) -> str:
    """The error's short word."""
    reason: str = getattr(error, "reason", "missing")
    return reason


def is_final(error: StoreError | RefusedError) -> bool:
    """Whether loading the same bytes again must fail again. An error of the disk may go away."""
    return isinstance(error, RefusedError) and error.reason != "load"


@contextmanager
def refusing(reason: str) -> Iterator[None]:
    """Turn every exception inside into a RefusedError: the libraries that open a model raise bare exceptions."""
    try:
        yield
    except (RefusedError, StoreError):
        raise
    except Exception as error:
        raise RefusedError(reason, f"{type(error).__name__}: {error}") from error
