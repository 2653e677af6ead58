"""`mora-serve`: the service on the command line."""

from __future__ import annotations

import inspect
import signal
import sys
from datetime import date
from typing import Annotated, Any

import typer

from model_store import StoreError
from model_store.command_line import OneLineUsageErrors, VersionFlag
from model_store.messages import describe_error
from service.labelling.commands import BULK_EXAMPLE, CLASSIFY_EXAMPLE, EMBED_EXAMPLE, bulk, classify, embed
from service.models.malloc import return_large_blocks
from service.models.pulled_store import pull_shown
from service.settings import PREFIX, Settings, read_settings
from service.telemetry.logs import configure_logging
from service.web.app import create_app
from service.web.keys import Client, key_line, make_key
from service.web.operator_signals import OperatorSignals, ignore_operator_signals
from service.web.server import Server

app = typer.Typer(cls=OneLineUsageErrors, no_args_is_help=True, add_completion=False)


@app.callback()
def main(version: VersionFlag = False) -> None:
    """Serve published models to requests whose image or text may be missing."""


def run(**flags: str | None) -> None:
    """Answer requests over HTTP until SIGTERM or SIGINT.

    SIGHUP reads keys and store again. SIGUSR1 logs the stack of every thread.
    """
    ignore_operator_signals()  # until the log is configured
    for number in (signal.SIGTERM, signal.SIGINT):  # until the server sets its own handlers
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        settings = read_settings({name: value for name, value in flags.items() if value is not None})
        configure_logging(settings)
        pull_shown(settings, exit_status=0)
        operator = OperatorSignals()
        return_large_blocks()
        service = create_app(settings)
    except (OSError, ValueError, StoreError) as error:
        raise typer.BadParameter(describe_error(error)) from error
    Server(service, settings, operator).run()
    ignore_operator_signals()  # the end of the interpreter restores the defaults, which end the process


def _needs_value(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Refuse another flag as a value: `--plain-http --port 8000` lacks one."""
    if value is not None and value.startswith("--") and value[2:].replace("-", "_") in Settings.model_fields:
        kind = "true or false" if Settings.model_fields[str(parameter.name)].annotation is bool else "a value"
        raise typer.BadParameter(f"it takes {kind}, but {value} follows")
    return value


def _flags() -> list[inspect.Parameter]:
    """One flag for each setting. The flags take text; `Settings` parses it."""
    parameters = []
    for name, field in Settings.model_fields.items():
        option: Any = typer.Option(
            f"--{name.replace('_', '-')}",
            help=field.description,
            metavar="VALUE",
            callback=_needs_value,
            envvar=f"{PREFIX}{name.upper()}",
            show_default=field.default is not None and not field.default_factory and str(field.default),
        )
        annotation = Annotated[str | None, option]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return parameters


run.__signature__ = inspect.Signature(_flags())  # type: ignore[attr-defined]
app.command("run")(run)
app.command("classify", epilog=CLASSIFY_EXAMPLE)(classify)
app.command("embed", epilog=EMBED_EXAMPLE)(embed)
app.command("bulk", epilog=BULK_EXAMPLE)(bulk)


@app.command("hash-key")
def hash_key(
    name: Annotated[str, typer.Argument(help="Name of the key. The log shows it with each request.")],
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the key from standard input instead of creating one.")
    ] = False,
    task: Annotated[
        list[str] | None, typer.Option(help="A task that the key may use; may be repeated. Without it, all.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Last day of the key in UTC, such as 2027-01-31.")] = None,
) -> None:
    """Print the line of MORA_API_KEYS_FILE for a key. A new key is shown once, on standard error."""
    key = sys.stdin.readline().rstrip("\r\n") if stdin else make_key()
    try:
        line = key_line(name, key, task or (), expires)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if expires is not None and Client(name, last_day=date.fromisoformat(expires)).has_expired():
        raise typer.BadParameter(f"{expires} is over, so services would refuse the key", param_hint="--expires")
    if not stdin:
        typer.echo(f"key: {key}", err=True)
    typer.echo(line)


if __name__ == "__main__":
    app()
