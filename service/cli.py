"""`mora-serve`: the service on the command line."""

from __future__ import annotations

import inspect
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from model_store import DEFAULT_STORE, StoreError
from model_store.messages import describe_os_error
from service.labelling.command import EPILOG, classify
from service.labelling.rows import DataSetError, named_columns
from service.models.malloc import return_large_blocks
from service.models.refusal import RefusedError
from service.settings import PREFIX, Settings, read_settings
from service.telemetry.logs import configure_logging
from service.web.app import create_app
from service.web.keys import key_line, make_key
from service.web.server import Server

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def main() -> None:
    """Serve published models to requests whose image or text may be missing."""


def run(**flags: str | None) -> None:
    """Answer requests over HTTP until SIGTERM or SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):  # until the server handles them
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        settings = read_settings({name: value for name, value in flags.items() if value is not None})
        configure_logging(settings)
        return_large_blocks()
        service = create_app(settings)
    except (OSError, ValueError, StoreError) as error:
        raise typer.BadParameter(describe_os_error(error) if isinstance(error, OSError) else str(error)) from error
    Server(service, settings).run()


def _flags() -> list[inspect.Parameter]:
    """One flag for each setting. The flags take text; `Settings` parses it."""
    parameters = []
    for name, field in Settings.model_fields.items():
        option: Any = typer.Option(
            f"--{name.replace('_', '-')}",
            help=field.description,
            metavar="VALUE",
            envvar=f"{PREFIX}{name.upper()}",
            show_default=field.default is not None and not field.default_factory and str(field.default),
        )
        annotation = Annotated[str | None, option]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return parameters


run.__signature__ = inspect.Signature(_flags())  # type: ignore[attr-defined]
app.command("run")(run)


app.command("classify", epilog=EPILOG)(classify)


@app.command("hash-key")
def hash_key(
    name: Annotated[str, typer.Argument(help="Name of the key. The log shows it with each request.")],
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the key from standard input instead of creating one.")
    ] = False,
) -> None:
    """Print the line of MORA_API_KEYS_FILE for a key. A new key is printed too, once, on standard error."""
    key = sys.stdin.readline().rstrip("\r\n") if stdin else make_key()
    try:
        line = key_line(name, key)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not stdin:
        typer.echo(f"key: {key}", err=True)
    typer.echo(line)


@app.command(
    "bulk",
    epilog="For example: mora-serve bulk shop/ labelled/ --task shop-kind --workers 4. A folder of parquet files is "
    "read by whatever reads parquet, as pandas.read_parquet('labelled/'). MORA_PRECISION, MORA_TRUSTED_KEYS and the "
    "MORA_MAX_* settings hold as for `mora-serve run`.",
)
def bulk(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Parquet file, or folder with *.parquet in it.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for the labelled parts; made if need be.")],
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="May be left out where the store has one task.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="By default the live one; a job that goes on keeps its own.")
    ] = None,
    store: Annotated[
        Path,
        typer.Option(metavar="DIR", envvar=f"{PREFIX}STORE", show_default=False, help="By default the shipped one."),
    ] = DEFAULT_STORE,
    image_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            show_default="image",
            help="Encoded pictures, structs of bytes and path, or paths relative to the file they stand in.",
        ),
    ] = None,
    text_column: Annotated[str | None, typer.Option(metavar="COLUMN", show_default="text", help="Texts.")] = None,
    keep: Annotated[
        str | None,
        typer.Option(metavar="COLUMNS", show_default="all", help="The input's columns to keep: id,title; '' for none."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many labels to list with their scores.")] = 5,
    part_rows: Annotated[int, typer.Option(min=1, help="Rows of a part: what a worker that is killed loses.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that label; they share the cores evenly.")] = 1,
    address: Annotated[
        str, typer.Option(help="Ray cluster to run on, all of whose nodes see INPUT, OUTPUT and the store.")
    ] = "local",
) -> None:
    """Label a parquet data set, whose rows may lack the image or the text, as `POST /classify` would.

    OUTPUT gets the input's rows in their order with the columns predicted_label, predicted_score, selected_labels,
    top_labels, top_scores, modalities, error and detail: a row that cannot be labelled has a code and the reason in
    the last two and stops nothing.

    Killed or stopped, it goes on when the same command is given again: rows are neither lost nor labelled twice. It
    refuses to go on when the input, the version or an option is another than it began with.

    Needs the extra `ray`.
    """
    try:
        from service.labelling import bulk as data_set  # only now: it needs the extra `ray`
        from service.labelling.planning import BulkOptions
    except ModuleNotFoundError as error:
        raise typer.BadParameter(f"bulk needs the extra ray (pip install '.[ray]'); {error}") from error
    kept = named_columns(keep)
    options = BulkOptions(
        source, output, task, version, image_column, text_column, kept, top_k, part_rows, workers, address
    )
    try:
        counts = data_set.run(options, read_settings({"store": store}), Console(stderr=True))
    except (OSError, ValueError, StoreError, RefusedError, DataSetError) as error:
        typer.echo(f"error: {describe_os_error(error) if isinstance(error, OSError) else error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{counts.total():,} rows in {output}, {counts.total() - counts['']:,} of them without an answer")
    for code, rows in counts.most_common():
        if code:
            typer.echo(f"  {code}: {rows:,}")


if __name__ == "__main__":
    app()
