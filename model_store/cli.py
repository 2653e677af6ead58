"""The command line `mora-store`: look at what is published, check it, and choose what answers."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec

import typer
from pydantic import JsonValue
from rich.console import Console

from model_store import publishing
from model_store.bom import ml_bom
from model_store.errors import NotFoundError, StoreError
from model_store.manifest import Manifest
from model_store.store import DEFAULT_STORE, Store
from model_store.tables import plain, size, summary, task_table
from model_store.verdict import Verdict, ask

P = ParamSpec("P")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Look after a store of published models.\n\n"
    "Every task has versions 1, 2, 3 ..., and one of them is [bold]live[/bold]: the one that a service answers with. "
    "`mora-train fit --publish` adds versions; this command shows and verifies them, and moves `live`.",
    epilog="For example: mora-store list, then mora-store show TASK, and mora-store rollback TASK to undo a publish.",
)

StoreOption = Annotated[
    Path,
    typer.Option(
        "--store", metavar="DIR", show_default=False, help="Store to work on; by default the one shipped with the code."
    ),
]
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="Name of a task, as `mora-store list` shows it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]


def _one_line_errors(command: Callable[P, None]) -> Callable[P, None]:
    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except BrokenPipeError:
            raise  # the reader of our output left: not an error of the store
        except (StoreError, OSError) as error:
            typer.echo(f"error: {plain(str(error))}", err=True)
            raise typer.Exit(1) from error

    return run


@app.command("list")
@_one_line_errors
def list_(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show every task with its live version."""
    opened = _open(store)
    rows = [_row(opened, task) for task in opened.tasks()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    elif rows:
        Console().print(task_table(rows))
    else:
        typer.echo(f"no tasks in {store} yet; `mora-train fit CONFIG --output DIR --publish {store}` adds one")


@app.command()
@_one_line_errors
def show(
    task: TaskArgument,
    version: Annotated[int | None, typer.Option(metavar="N", min=1, help="By default the live version.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write its training report (HTML) here.")] = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Also ask the service there which version it answers with, and why."),
    ] = None,
) -> None:
    """Describe one version: labels, metrics and calibration per presence pattern, graphs, provenance.

    With --json, print its manifest.
    """
    if as_json and url is not None:
        raise typer.BadParameter("prints no manifest; leave out --json", param_hint="--url")
    opened = _open(store)
    manifest = opened.manifest(task, version)
    if report is not None:
        if manifest.report is None:
            raise NotFoundError(f"{task} version {manifest.version} was published without a report")
        report.write_bytes(opened.read(manifest.report))
    if as_json:
        typer.echo(manifest.model_dump_json(indent=1))
    else:
        Console().print(summary(manifest, is_live=opened.live(task) == manifest.version))
    if url is not None:
        typer.echo(plain(_sentence(url, ask(url, task))))


@app.command()
@_one_line_errors
def sbom(
    task: TaskArgument,
    version: Annotated[int | None, typer.Option(metavar="N", min=1, help="By default the live version.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Print what one version is made of as CycloneDX 1.6 (ML-BOM, JSON): model card, data, files with SHA-256.

    It says what the manifest says; `mora-store verify` compares that with the files.
    """
    typer.echo(json.dumps(ml_bom(_open(store).manifest(task, version)), indent=1))


@app.command()
@_one_line_errors
def verify(
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="By default every task.")] = None,
    version: Annotated[int | None, typer.Option(metavar="N", min=1, help="By default every one; needs TASK.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Read every file that versions need, and compare sizes and SHA-256 with the manifest.

    Prints a line for each version. Exits with 1 if any is damaged, or if there is none.
    """
    if version is not None and task is None:
        raise typer.BadParameter("needs TASK: a version number alone names nothing", param_hint="--version")
    opened = _open(store)
    good: list[bool] = []
    for name in [task] if task is not None else opened.tasks():
        good += [_is_good(opened, name, number) for number in ([version] if version else opened.versions(name))]
        good += [_has_good_live(opened, name)] if version is None else []
    if not good:
        raise NotFoundError(f"nothing to verify: no tasks in {store}")
    if not all(good):
        raise typer.Exit(1)


@app.command()
@_one_line_errors
def activate(
    task: TaskArgument,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Number of a published version.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make VERSION the live one, after verifying it. Running services switch when they next look."""
    manifest = publishing.activate(Store(store), task, version)
    typer.echo(f"{task}: version {manifest.version} is live")


@app.command()
@_one_line_errors
def rollback(task: TaskArgument, store: StoreOption = DEFAULT_STORE) -> None:
    """Make the version before the live one live again, after verifying it."""
    manifest = publishing.rollback(Store(store), task)
    typer.echo(f"{task}: version {manifest.version} is live again")


@app.command()
@_one_line_errors
def gc(store: StoreOption = DEFAULT_STORE) -> None:
    """Remove files that no version needs, and what interrupted publishers left behind.

    Versions are never removed: delete a version's folder under tasks/ first, then run this.
    """
    sizes = {path: _bytes_under(path) for path in [*store.glob("blobs/sha256/*"), *store.glob(".staging/*")]}
    removed = publishing.collect_garbage(Store(store))
    for path in removed:
        typer.echo(f"removed {path.relative_to(store)} ({size(sizes.get(path, 0))})")
    typer.echo(f"{len(removed)} removed, {sum(sizes.get(path, 0) for path in removed)} bytes freed")


def _open(root: Path) -> Store:
    if not root.is_dir():
        raise NotFoundError(f"no model store at {root}")
    return Store(root)


def _row(store: Store, task: str) -> dict[str, JsonValue]:
    row: dict[str, JsonValue] = {"task": task, "live": None, "versions": [*store.versions(task)]}
    try:
        row["live"] = store.live(task)
        if row["live"] is not None:
            row |= _facts(store.manifest(task))
    except StoreError as error:
        row["error"] = str(error)
    return row


def _facts(manifest: Manifest) -> dict[str, JsonValue]:
    return {
        "problem": manifest.problem.value,
        "labels": [*manifest.labels],
        "backbone": manifest.backbone.name,
        "precisions": [precision.value for precision in manifest.graphs],
        "bytes": sum(blob.size for blob in manifest.blobs()),
    }


def _sentence(url: str, verdict: Verdict) -> str:
    said = f"{url} answers with version {verdict.version}"
    if verdict.refused is None:
        return said
    what = "what `live` holds" if verdict.refused.version is None else f"version {verdict.refused.version}"
    return f"{said} because it refused {what}: {verdict.refused.reason} (its log says more)"


def _is_good(store: Store, task: str, version: int) -> bool:
    try:
        manifest = store.verify(task, version)
    except StoreError as error:
        typer.echo(f"BAD  {task} {version}: {plain(str(error))}")
        return False
    blobs = manifest.blobs()
    typer.echo(f"ok   {task} {version}: {len(blobs)} files, {size(sum(blob.size for blob in blobs))}")
    return True


def _has_good_live(store: Store, task: str) -> bool:
    try:
        live = store.live(task)
        if live is not None and live not in store.versions(task):
            raise NotFoundError(f"version {live} is not there; run `mora-store activate {task} VERSION`")
    except StoreError as error:
        typer.echo(f"BAD  {task} live: {plain(str(error))}")
        return False
    return True


def _bytes_under(path: Path) -> int:
    try:
        if path.is_dir() and not path.is_symlink():
            return sum(_bytes_under(inner) for inner in path.iterdir())
        return path.lstat().st_size
    except FileNotFoundError:  # a publisher at work moved or removed it
        return 0
