"""What all three commands have in common: usage errors of one line, and `--version`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

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


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        try:
            typer.echo(f"mora-serve {version('mora-serve')}")
        except PackageNotFoundError:
            typer.echo("mora-serve is run from its source and not installed", err=True)
            raise typer.Exit(1) from None
        raise typer.Exit


VersionFlag = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version of the package.")
]


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
