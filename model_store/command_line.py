"""Usage errors of all three commands, each printed as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from model_store.describe.tables import plain


class OneLineUsageErrors(TyperGroup):
    """Commands that print a usage error as one line, which names the help page. The exit status is 2."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - typer does not export its class
        with _one_line():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise  # typer has printed the help page
        context = getattr(error, "ctx", None)
        page = "" if context is None else f"; see {context.command_path} --help"
        typer.echo(f"error: {plain(error.format_message()).rstrip('.')}{page}", err=True)
        raise typer.Exit(error.exit_code) from None
