"""`mora-serve classify`, `mora-serve embed` and `mora-serve bulk`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model_store import Problem
from model_store.api_key import VARIABLE, ApiKeyFileOption, read_api_key
from model_store.describe.tables import plain
from model_store.items.cells import existing
from model_store.items.tables import Table
from service.api.item import Item
from service.client import Client
from service.errors import ServiceError
from service.labelling.answer_view import answer_view
from service.labelling.answerers import (
    Answerer,
    ServiceAnswerer,
    StoreAnswerer,
    embed_rows,
    label_rows,
    open_store,
)
from service.labelling.command_errors import one_line_errors
from service.labelling.labelled_file import columns_of, label_file, open_source, skipped_lines
from service.labelling.progress import RowCounts
from service.labelling.rows import EMBEDDING_COLUMNS, Limits, answer_columns, item_of, named_columns
from service.labelling.writers import check_output
from service.models.pulled_store import pull_shown
from service.settings import Settings, read_settings
from service.telemetry.logs import configure_logging

CLASSIFY_EXAMPLE = (
    "For example: mora-serve classify --text 'a red apple' --image apple.png, or mora-serve classify shop.csv "
    "--output labelled.csv --url http://127.0.0.1:8000."
)
EMBED_EXAMPLE = (
    "For example: mora-serve embed catalogue.csv vectors.parquet --task shop-search. "
    "numpy.stack(pandas.read_parquet('vectors.parquet').embedding.dropna()) is the matrix of the vectors."
)
BULK_EXAMPLE = (
    "For example: mora-serve bulk shop/ labelled/ --task shop-kind --workers 4. The output folder is a parquet data "
    "set, which pandas.read_parquet('labelled/') reads. The settings MORA_PRECISION, MORA_TRUSTED_KEYS and MORA_MAX_* "
    "apply as for `mora-serve run`."
)
_IMAGES = "Encoded pictures, structs of bytes and path, or paths relative to the file or folder; '' for none."
_TWO_PLACES = "--store loads the model here, --url uses a running service; leave one of them out"
_KEEP = "The input's columns to keep: id,title; '' for none."


def _check_coverage(coverage: float | None) -> float | None:
    if coverage is not None and not 0.5 <= coverage < 1:
        raise typer.BadParameter(f"{coverage} is no coverage; give at least 0.5 and less than 1, such as 0.9")
    return coverage


StoreOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Store, or oci://HOST/REPOSITORY:TAG; by default MORA_STORE, or the shipped tasks.",
    ),
]
UrlOption = Annotated[
    str | None, typer.Option(metavar="URL", help="A running service to use instead, such as http://127.0.0.1:8000.")
]
ImageOption = Annotated[str | None, typer.Option(metavar="COLUMN", show_default="image", help=_IMAGES)]
TextOption = Annotated[str | None, typer.Option(metavar="COLUMN", show_default="text", help="Texts; '' for none.")]
TopKOption = Annotated[int, typer.Option(min=1, help="How many labels to list with their scores.")]
CoverageOption = Annotated[
    float | None,
    typer.Option(
        metavar="PROBABILITY",
        callback=_check_coverage,
        show_default="no label sets",
        help="Add the labels among which the true one is with this probability (0.9), and whether to review the item.",
    ),
]


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
        typer.Option(metavar="TASK", help="One item: by default every task. Many: needed if there are several tasks."),
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, metavar="N", help="By default the live one.")] = None,
    top_k: TopKOption = 5,
    coverage: CoverageOption = None,
    store: StoreOption = None,
    url: UrlOption = None,
    api_key_file: ApiKeyFileOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One item: print the answer of POST /classify, a line for each task.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="One item: print also what each modality adds to the logit of each label.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default="JSON lines on standard output", help="Many: a .csv, .jsonl or .parquet file."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing --output.")] = False,
    image_column: ImageOption = None,
    text_column: TextOption = None,
    keep: Annotated[
        str | None, typer.Option(metavar="COLUMNS", show_default="all; csv and jsonl: all but bytes", help=_KEEP)
    ] = None,
) -> None:
    """Label one item, or every row of INPUT, as `POST /classify` would: an image, a text, or both.

    The model is loaded from the store into this process. With --url, a running service gives the same answers.

    Rows of INPUT may lack the image or the text. The output has the rows of the input in the same order, with the
    columns predicted_label, predicted_score, selected_labels, top_labels, top_scores, modalities, error and detail;
    with --coverage also label_set and review. A row that cannot be labelled has the code and the reason in error and
    detail; the other rows are labelled. An --output file appears once it is complete.

    Exit status: 0 if an item or a row was labelled; 1 if every row failed, or after an error; 130 if interrupted.
    """
    one = {"--text": text, "--image": image, "--json": as_json, "--explain": explain}
    many = {"INPUT": source, "--output": output, "--force": force, "--keep": keep}
    many |= {"--image-column": image_column, "--text-column": text_column}
    _check_usage(_given(one), _given(many), store, url)
    try:
        settings = _read_settings(store)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    configure_logging(settings)

    def open_answerer(name: str | None = task) -> Answerer:
        if url is not None:
            return ServiceAnswerer(url, read_api_key(api_key_file), name, version, coverage)
        return StoreAnswerer(open_store(settings), settings, name, version, coverage)

    def all_tasks() -> list[str]:
        if url is None:
            opened = open_store(settings)
            live = [name for name in opened.tasks() if opened.live(name) is not None]
            return [name for name in live if opened.manifest(name).problem is not Problem.RETRIEVAL] or live
        with Client(url, read_api_key(api_key_file)) as client:
            served = client.tasks().tasks
            return [each.task for each in served if each.problem is not Problem.RETRIEVAL] or [
                each.task for each in served
            ]

    with one_line_errors("stopped; no file was written"):
        if url is None:
            pull_shown(settings)
        if source is None:
            item = _read_item(image, text, settings)
            names = [task] if task is not None or version is not None else all_tasks()
            for name in names or [None]:
                with closing(open_answerer(name)) as answerer:
                    answer = answerer.classify(item, top_k, explain)
                if as_json:
                    print(answer.model_dump_json(exclude_unset=True), flush=True)
                else:
                    Console().print(answer_view(answer))
            return
        source = existing(source)
        if output is not None:
            check_output(output, source, force)
        table = open_source(source)
        answers = answer_columns(coverage)
        columns = columns_of(table, image_column, text_column, named_columns(keep), answers, output)
        answer_rows = partial(label_rows, top_k=top_k, columns=answers)
        counts = label_file(table, columns, Limits.of(settings), answer_rows, output, open_answerer)
    _report("standard output" if output is None else output, counts, table)


def embed(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A csv, jsonl or parquet file, or a folder of pictures.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="A .parquet or .jsonl file.")],
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="Retrieval task; needed if there are several tasks.")
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, metavar="N", help="By default the live one.")] = None,
    store: StoreOption = None,
    url: UrlOption = None,
    api_key_file: ApiKeyFileOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing OUTPUT.")] = False,
    image_column: ImageOption = None,
    text_column: TextOption = None,
    keep: Annotated[str | None, typer.Option(metavar="COLUMNS", show_default="all", help=_KEEP)] = None,
) -> None:
    """Turn every row of INPUT into a vector of a retrieval task, as `POST /embed` would: a catalogue to search in.

    Rows may lack the image or the text. OUTPUT has the rows of the input in the same order, with the columns embedding
    (numbers of a vector of length 1), modalities, error and detail. A row that cannot be encoded has no vector, and the
    code and the reason in error and detail; the other rows are encoded. OUTPUT appears once it is complete.

    Exit status: 0 if a row was encoded; 1 if every row failed, or after an error; 130 if interrupted.
    """
    if store is not None and url is not None:
        raise typer.BadParameter(_TWO_PLACES)
    if output.suffix.lower() == ".csv":
        raise typer.BadParameter(f"{output} cannot hold vectors; write .parquet or .jsonl")
    try:
        settings = _read_settings(store)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    configure_logging(settings)

    def open_answerer() -> Answerer:
        if url is not None:
            return ServiceAnswerer(url, read_api_key(api_key_file), task, version, embeds=True)
        return StoreAnswerer(open_store(settings), settings, task, version, embeds=True)

    with one_line_errors("stopped; no file was written"):
        if url is None:
            pull_shown(settings)
        source = existing(source)
        check_output(output, source, force)
        table = open_source(source)
        columns = columns_of(table, image_column, text_column, named_columns(keep), EMBEDDING_COLUMNS, output)
        counts = label_file(table, columns, Limits.of(settings), embed_rows, output, open_answerer)
    _report(output, counts, table)


def bulk(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Parquet file, or folder with *.parquet in it.")],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="Folder for the labelled parts; created if it is missing.")
    ],
    task: Annotated[str | None, typer.Option(metavar="TASK", help="Needed if the store has several tasks.")] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="By default the live one; a resumed job keeps its version.")
    ] = None,
    store: StoreOption = None,
    image_column: ImageOption = None,
    text_column: TextOption = None,
    keep: Annotated[str | None, typer.Option(metavar="COLUMNS", show_default="all", help=_KEEP)] = None,
    top_k: TopKOption = 5,
    coverage: CoverageOption = None,
    part_rows: Annotated[int, typer.Option(min=1, help="Rows of a part; a killed worker loses one at most.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes, which share the cores evenly.")] = 1,
    address: Annotated[
        str, typer.Option(help="Ray cluster to run on; all its nodes must see INPUT, OUTPUT and the store.")
    ] = "local",
) -> None:
    """Label a parquet data set as `POST /classify` would. Rows may lack the image or the text.

    OUTPUT gets the rows of the input in the same order, with the columns predicted_label, predicted_score,
    selected_labels, top_labels, top_scores, modalities, error and detail; with --coverage also label_set and review. A
    row that cannot be labelled has the code and the reason in error and detail; the other rows are labelled.

    The same command resumes a job that was killed or stopped; each row is labelled once. A job resumes only with the
    input, version and options that it began with.

    Needs the extra `ray`.
    """
    try:
        from service.labelling.bulk import label_data_set  # only now: these need the extra `ray`
        from service.labelling.planning import BulkOptions
        from service.labelling.ray_executor import label_on_ray
    except ModuleNotFoundError as error:
        raise typer.BadParameter(f"bulk needs the extra ray (pip install 'mora-serve[ray]'); {error}") from error
    columns = image_column, text_column, named_columns(keep)
    options = BulkOptions(existing(source), output, task, version, *columns, top_k, coverage, part_rows)
    executor = partial(label_on_ray, workers=workers, address=address)
    with one_line_errors("stopped; run the same command to resume"):
        settings = _read_settings(store)
        pull_shown(settings)
        counts = label_data_set(options, settings, executor, Console(stderr=True))
    typer.echo(counts.summary(output))
    for code, rows in counts.errors.most_common():
        typer.echo(f"  {code}: {rows:,}")


def _report(output: object, counts: RowCounts, table: Table) -> None:
    """Print the counts, the first failed rows and the files that were left out. Exits with 1 if every row failed."""
    typer.echo(counts.summary(output), err=True)
    for line in [*counts.failures(), *skipped_lines(table)]:
        typer.echo(f"  {plain(line)}", err=True)
    if counts.failed == counts.rows:
        raise typer.Exit(1)


def _given(options: Mapping[str, object]) -> list[str]:
    return [name for name, value in options.items() if value is not None and value is not False]


def _check_usage(one: list[str], many: list[str], store: str | None, url: str | None) -> None:
    """Refuse options that exclude each other, and a command without input. Raises BadParameter."""
    if not {"--text", "--image", "INPUT"} & {*one, *many}:
        raise typer.BadParameter("give --text, --image or both for one item, or INPUT for many")
    if one and many:
        raise typer.BadParameter(f"{one[0]} is for one item, {many[0]} for many; leave one of them out")
    if store is not None and url is not None:
        raise typer.BadParameter(_TWO_PLACES)


def _read_settings(store: str | None) -> Settings:
    """The settings of the environment, and --store. Raises ValueError."""
    return read_settings({} if store is None else {"store": store}, besides=[VARIABLE])


def _read_item(image: str | None, text: str | None, settings: Settings) -> Item:
    """The item of --image and --text. Raises OSError or ServiceError."""
    size = settings.max_body_bytes + 1
    if image is None:
        picture = None
    elif image == "-":
        picture = sys.stdin.buffer.read(size)
    else:
        with existing(Path(image)).open("rb") as file:
            picture = file.read(size)
    item = item_of(picture, text, Path(), Limits.of(settings))
    if isinstance(item, ServiceError):
        raise item
    return item
