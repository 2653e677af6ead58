"""Errors of the labelling commands, each printed in one line."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from model_store import StoreError
from model_store.api_key import VARIABLE
from model_store.describe.tables import plain
from model_store.messages import describe_os_error
from service.client import ClientError, NoAnswerError, ProblemError
from service.errors import Code, ServiceError
from service.labelling.rows import DataSetError
from service.models.refusal import RefusedError


@contextmanager
def one_line_errors(interrupted: str) -> Iterator[None]:
    """Print an error as one line on standard error, or `interrupted` after Ctrl-C. Raises Exit."""
    try:
        yield
    except BrokenPipeError:
        raise  # the process that reads the output has ended
    except KeyboardInterrupt as interruption:
        _discard(interruption)
        typer.echo(interrupted, err=True)
        raise typer.Exit(130) from None
    except (ClientError, DataSetError, OSError, RefusedError, ServiceError, StoreError, ValueError) as error:
        typer.echo(f"error: {plain(_message(error))}", err=True)
        raise typer.Exit(1) from error


def _discard(interruption: KeyboardInterrupt) -> None:
    """Destroy what interrupted functions had, in silence: destructors complain of half-made objects."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings(action="ignore"):
            traceback.clear_frames(interruption.__traceback__)
    finally:
        sys.unraisablehook = hook


def _message(error: Exception) -> str:
    if isinstance(error, ServiceError):
        return f"{error.code}: {error.detail}"
    if isinstance(error, OSError):
        return describe_os_error(error)
    if isinstance(error, NoAnswerError):
        return f"{error}; is `mora-serve run` running there? Without --url, no service is needed"
    if isinstance(error, ProblemError) and error.code == Code.UNAUTHORIZED:
        return f"{error} Give a key with --api-key-file or {VARIABLE}"
    return str(error)
