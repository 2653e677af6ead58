"""`mora-serve classify`: one item or many, answered by a model in this process or by a running service."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from model_store import StoreError
from model_store.api_key import VARIABLE, ApiKeyFileOption, read_api_key
from model_store.describe.tables import plain
from service.api.answers import Classification
from service.api.item import Item
from service.client import ClientError, NoAnswerError, ProblemError
from service.errors import Code, ServiceError
from service.labelling.answer_view import answer_view
from service.labelling.answerers import Answerer, ServiceAnswerer, StoreAnswerer, live_tasks, served_tasks
from service.labelling.labeller import open_store
from service.labelling.rows import DataSetError, Limits, item_of, named_columns
from service.labelling.run import Outcome, Run, columns_of
from service.labelling.sources import open_source
from service.labelling.writers import check_output
from service.models.refusal import RefusedError
from service.settings import Settings, read_settings
from service.telemetry.logs import configure_logging

EPILOG = (
    "For example: mora-serve classify --text 'a red apple' --image apple.png, or mora-serve classify shop.csv "
    "--output labelled.csv --url http://127.0.0.1:8000."
)


def classify(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="INPUT", show_default=False, help="Many: a csv, jsonl or parquet file, or a folder of pictures."
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="One item: its text.")] = None,
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="One item: its picture; - for standard input.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="One item: by default every task. Many: may be left out where there is one."),
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, metavar="N", help="By default the live one.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many labels to list with their scores.")] = 5,
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Store to load the model from; by default MORA_STORE, or the shipped one."),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask the service there instead, as http://127.0.0.1:8000.")
    ] = None,
    api_key_file: ApiKeyFileOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One item: print what POST /classify answers, a line a task.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="One item: also what each modality adds to each label.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default="JSON lines on standard output", help="Many: a .csv, .jsonl or .parquet file."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the --output that is there.")] = False,
    image_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", show_default="image", help="Pictures, or paths relative to the file they stand in."
        ),
    ] = None,
    text_column: Annotated[str | None, typer.Option(metavar="COLUMN", show_default="text", help="Texts.")] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMNS",
            show_default="all; csv and jsonl: all but bytes",
            help="The input's columns to keep: id,title; '' for none.",
        ),
    ] = None,
) -> None:
    """Label one item, or every row of INPUT, as `POST /classify` would: an image, a text, or both.

    The model is loaded from the store into this process, or with --url a running service is asked; the answers are the
    same.

    Rows of INPUT may lack the image or the text. The output has the input's rows in their order with the columns
    predicted_label, predicted_score, selected_labels, top_labels, top_scores, modalities, error and detail: a row that
    cannot be labelled has a code and the reason in the last two and stops nothing. An --output file is there when all
    of it is, and not before.

    Exit status: 0; 1 where an item, or not a single row, could be labelled, or the work could not be done; 130 when
    interrupted.
    """
    one = {"--text": text, "--image": image, "--json": as_json, "--explain": explain}
    many = {"INPUT": source, "--output": output, "--force": force, "--keep": keep}
    many |= {"--image-column": image_column, "--text-column": text_column}
    _check_usage(_given(one), _given(many), store, url)
    settings = _settings(store)
    configure_logging(settings)

    def answerer(name: str | None = task) -> Answerer:
        if url is not None:
            return ServiceAnswerer(url, read_api_key(api_key_file), name, version)
        return StoreAnswerer(open_store(settings), settings, name, version)

    def tasks() -> list[str]:
        return live_tasks(open_store(settings)) if url is None else served_tasks(url, read_api_key(api_key_file))

    with _one_line_errors():
        if source is None:
            item = _item(image, text, settings)
            names = [task] if task is not None or version is not None else tasks()
            for name in names or [None]:
                with answerer(name) as asked:
                    _print(asked.classify(item, top_k, explain), as_json)
        else:
            if output is not None:
                check_output(output, source, force)
            opened = open_source(source)
            columns = columns_of(opened, image_column, text_column, named_columns(keep), output)
            run = Run(opened, columns, Limits.of(settings), output, top_k)
            _finish(run.label(answerer, Console(stderr=True)), output)


def _given(options: Mapping[str, object]) -> list[str]:
    return [name for name, value in options.items() if value is not None and value is not False]


def _check_usage(one: list[str], many: list[str], store: Path | None, url: str | None) -> None:
    """One item or many, from a store or a service. Raises BadParameter."""
    if not {"--text", "--image", "INPUT"} & {*one, *many}:
        raise typer.BadParameter("give --text, --image or both for one item, or INPUT for many")
    if one and many:
        raise typer.BadParameter(f"{one[0]} is for one item, {many[0]} for many; leave one of them out")
    if store is not None and url is not None:
        raise typer.BadParameter("--store loads a model here, --url asks a service; leave one of them out")


def _settings(store: Path | None) -> Settings:
    try:
        return read_settings({} if store is None else {"store": store}, besides=[VARIABLE])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _item(image: str | None, text: str | None, settings: Settings) -> Item:
    """What the options give. Raises OSError or ServiceError."""
    most = settings.max_body_bytes
    if image is None:
        picture = None
    elif image == "-":
        picture = sys.stdin.buffer.read(most + 1)
    else:
        with Path(image).open("rb") as file:
            picture = file.read(most + 1)
    item = item_of(picture, text, Path(), Limits.of(settings))
    if isinstance(item, ServiceError):
        raise item
    return item


def _print(answer: Classification, as_json: bool) -> None:
    if as_json:
        print(answer.model_dump_json(exclude_unset=True), flush=True)
    else:
        Console().print(answer_view(answer))


def _finish(outcome: Outcome, output: Path | None) -> None:
    """Say what became of the rows. Raises Exit where none has an answer."""
    where = "standard output" if output is None else output
    typer.echo(f"{outcome.rows:,} rows in {where}, {outcome.failed:,} of them without an answer", err=True)
    for line in outcome.told():
        typer.echo(f"  {plain(line)}", err=True)
    if outcome.failed == outcome.rows:
        raise typer.Exit(1)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Say in one line why it did not work. Raises Exit."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of our output left
    except KeyboardInterrupt:
        typer.echo("stopped; no file was written", err=True)
        raise typer.Exit(130) from None
    except ServiceError as error:
        _fail(f"{error.code}: {error.detail}", error)
    except OSError as error:
        _fail(f"{error.filename} cannot be read: {error.strerror}" if error.filename else str(error), error)
    except NoAnswerError as error:
        _fail(f"{error}; is `mora-serve run` at work there? Without --url no service is needed", error)
    except (StoreError, RefusedError, DataSetError, ClientError) as error:
        is_closed = isinstance(error, ProblemError) and error.code == Code.UNAUTHORIZED
        _fail(f"{error} Give one with --api-key-file or {VARIABLE}" if is_closed else str(error), error)


def _fail(message: str, error: Exception) -> NoReturn:
    typer.echo(f"error: {plain(message)}", err=True)
    raise typer.Exit(1) from error
