"""The command line `mora-store`: show, verify, sign, move and activate published versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import JsonValue
from rich.console import Console

from model_store import publishing, removing
from model_store.api_key import ApiKeyFileOption, read_api_key
from model_store.command_line import OneLineUsageErrors, VersionFlag
from model_store.describe.bom import ml_bom
from model_store.describe.card import model_card
from model_store.describe.tables import plain, size, summary, task_table
from model_store.errors import NotFoundError, StoreError
from model_store.messages import describe_error, quoted
from model_store.output_files import ForceOption, check_output_file
from model_store.server_comparison import ServerComparison, compare_with_server
from model_store.signing import TrustedKeys, fingerprint, make_key_pair, read_signing_key, read_trusted_keys
from model_store.store import DEFAULT_STORE, OPENSSF_SIGNATURE, Store
from model_store.store_options import StoreOption, TrustedOption, open_store
from model_store.transfer_commands import follow, pull, push


class _OneLineErrors(OneLineUsageErrors):
    """The commands. An error of the store or of the system is printed as one line, and the exit status is 1."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of the output has closed the pipe, which is no error of the store
        except (StoreError, OSError) as error:
            problem = describe_error(error)
            typer.echo(f"error: {plain(problem)}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Manage a store of published models.\n\n"
    "Each task has versions 1, 2, 3 ... One of them is [bold]live[/bold]: services answer with it. `mora-train fit "
    "--publish` adds a version. This command shows and verifies versions, and changes which one is live.",
    epilog="For example: mora-store list, then mora-store show TASK. To undo a publish: mora-store rollback TASK.",
)


@app.callback()
def main(version: VersionFlag = False) -> None:
    """Manage a store."""


TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="Name of a task, as `mora-store list` shows it.")]
VersionOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Number of a version; by default the live one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.command("list")
def list_(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show every task with its live version."""
    opened = open_store(store)
    rows = [_task_row(opened, task) for task in opened.tasks()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    elif rows:
        Console().print(task_table(rows))
    else:
        typer.echo(f"no tasks in {store} yet; `mora-train fit CONFIG --output DIR --publish {quoted(store)}` adds one")


@app.command()
def show(
    task: TaskArgument,
    version: VersionOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the training report of the version (HTML) to FILE.")
    ] = None,
    force: ForceOption = False,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Also ask the service at URL for the version that it answers with."),
    ] = None,
    api_key_file: ApiKeyFileOption = None,
    trusted_keys: TrustedOption = None,
) -> None:
    """Describe one version: signature, labels, metrics and calibration per presence pattern, graphs, provenance.

    With --json, print its manifest.
    """
    if as_json and url is not None:
        raise typer.BadParameter("cannot be combined with --json; leave out one of them", param_hint="--url")
    if report is not None:
        check_output_file(report, force=force)
    opened = open_store(store)
    manifest, content = opened.read_manifest(task, version)
    if report is not None:
        if manifest.report is None:
            problem = f"{task} version {manifest.version} was published without a report"
            raise NotFoundError(f"{problem}; leave out --report, or train and publish it again")
        report.write_bytes(opened.read(manifest.report))
    if as_json:
        typer.echo(manifest.model_dump_json(indent=1))
    else:
        signature = _signed_by(opened.signature(task, manifest.version), content, read_trusted_keys(trusted_keys))
        Console().print(summary(manifest, is_live=opened.live(task) == manifest.version, signature=signature))
    if url is not None:
        typer.echo(plain(_server_sentence(url, compare_with_server(url, task, read_api_key(api_key_file)))))


@app.command()
def sbom(task: TaskArgument, version: VersionOption = None, store: StoreOption = DEFAULT_STORE) -> None:
    """Print the SBOM of one version as CycloneDX 1.6 (ML-BOM, JSON): model card, data, files with SHA-256.

    The SBOM is made from the manifest. `mora-store verify` compares the manifest with the files.
    """
    typer.echo(json.dumps(ml_bom(open_store(store).manifest(task, version)), indent=1))


@app.command()
def card(
    task: TaskArgument,
    version: VersionOption = None,
    store: StoreOption = DEFAULT_STORE,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the card to FILE instead of printing it.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Print the model card of one version: Markdown with front matter, a README.md for the Hugging Face hub.

    The card contains the training configuration with its paths. Read the card before you share it.
    """
    if output is not None:
        check_output_file(output, force=force)
    content = model_card(open_store(store).manifest(task, version))
    if output is None:
        typer.echo(content, nl=False)
    else:
        output.write_text(content, encoding="utf-8")


@app.command()
def verify(
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Name of a task; by default every task.")] = None,
    version: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Number of a version of TASK; by default every version.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    trusted_keys: TrustedOption = None,
) -> None:
    """Compare the size and SHA-256 of every file of the versions with the manifest.

    Prints one line per version. A damaged version is BAD. With --trusted-keys, a version without a signature by one of
    the keys is BAD too. Exits with 1 if a version is BAD, or if the store has no version.
    """
    if version is not None and task is None:
        raise typer.BadParameter("needs TASK", param_hint="--version")
    opened = open_store(store, trusted_keys)
    results: list[bool] = []
    for name in [task] if task is not None else opened.tasks():
        results += [_is_good(opened, name, number) for number in ([version] if version else opened.versions(name))]
        if version is None:
            results.append(_has_good_live(opened, name))
    if not results:
        raise NotFoundError(f"nothing to verify: no tasks in {store}; name the folder of a store with --store")
    if not all(results):
        raise typer.Exit(1)


@app.command()
def activate(
    task: TaskArgument,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Number of a published version.")],
    store: StoreOption = DEFAULT_STORE,
    trusted_keys: TrustedOption = None,
) -> None:
    """Verify VERSION, then make it live. Running services switch when they next check the store."""
    manifest = publishing.activate(open_store(store, trusted_keys), task, version)
    typer.echo(f"{task}: version {manifest.version} is live")


@app.command()
def rollback(task: TaskArgument, store: StoreOption = DEFAULT_STORE, trusted_keys: TrustedOption = None) -> None:
    """Verify the version before the live one, then make it live again. Each rollback goes back one version further."""
    manifest = publishing.rollback(open_store(store, trusted_keys), task)
    typer.echo(f"{task}: version {manifest.version} is live again")


@app.command()
def seed(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder of the store to copy from.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Copy the live version of every task of SOURCE that the store lacks. A task that the store has stays as it is."""
    for task, version in publishing.seed(Store(store), open_store(source, option="SOURCE")).items():
        typer.echo(f"{task}: " + ("is in the store already" if version is None else f"version {version} is live"))


for command in (push, pull, follow):
    app.command()(command)


@app.command()
def withdraw(task: TaskArgument, store: StoreOption = DEFAULT_STORE) -> None:
    """End the answers for TASK (404 `unknown_task`) without a restart, until `activate`. No file is removed."""
    version = publishing.withdraw(open_store(store), task)
    cure = f"`mora-store activate {task} {version} --store {quoted(store)}` undoes this"
    typer.echo(f"{task}: withdrawn; services stop answering when they next check the store. {cure}")


@app.command()
def keygen(
    key: Annotated[
        Path, typer.Argument(metavar="KEY", help="File for the private key. The public key goes to KEY.pub.")
    ],
) -> None:
    """Create a key pair (Ed25519, PEM): a private key that signs versions, and a public key that services trust.

    Keep KEY secret; only its owner can read the file. Prints the fingerprint of the key, which `show` prints too.
    """
    public = Path(f"{key}.pub")
    name = make_key_pair(key, public)
    typer.echo(f"{name}: wrote {key} (keep it secret) and {public} (for the file of MORA_TRUSTED_KEYS)")


@app.command()
def sign(
    task: TaskArgument,
    key: Annotated[Path, typer.Option("--key", metavar="KEY", help="Private key of `mora-store keygen`.")],
    version: VersionOption = None,
    store: StoreOption = DEFAULT_STORE,
    openssf: Annotated[
        bool,
        typer.Option(
            "--openssf", help="Sign in the OpenSSF Model Signing format instead; KEY is on P-256, P-384 or P-521."
        ),
    ] = False,
) -> None:
    """Verify a published version, then sign it. An existing signature is replaced.

    To sign a new version when it is published: mora-train publish DIR --sign-with KEY. With --openssf, the signature is
    `model.sig` beside `manifest.sig`. The command `model_signing` verifies it; services do not read it.
    """
    if openssf:
        from model_store.openssf import sign_openssf

        manifest = sign_openssf(open_store(store), task, version, key)
        typer.echo(
            f"{task}: version {manifest.version} is signed; wrote tasks/{task}/{manifest.version}/{OPENSSF_SIGNATURE}"
        )
        return
    signing_key = read_signing_key(key)
    manifest = publishing.sign(open_store(store), task, version, signing_key)
    typer.echo(f"{task}: version {manifest.version} is signed by {fingerprint(signing_key.public_key())}")


@app.command()
def prune(
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=1, help="Number of versions before the live one that stay.")
    ],
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Name of a task; by default every task.")] = None,
    store: StoreOption = DEFAULT_STORE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed, and remove nothing.", show_default=False)
    ] = False,
) -> None:
    """Remove old versions, then the files that no version needs any more, as `gc` does.

    The live version stays, and so do the N versions before it, to which `rollback` goes back, and all newer versions.
    """
    _print_removed(store, removing.prune(open_store(store), keep, task, dry_run=dry_run), dry_run=dry_run)


@app.command()
def gc(store: StoreOption = DEFAULT_STORE) -> None:
    """Remove files that no version needs, and unfinished files of interrupted publishers and transfers.

    No version is removed: `prune` removes old ones. To remove another one, delete its folder under tasks/, then run
    this command.
    """
    _print_removed(store, removing.collect_garbage(open_store(store)))


def _print_removed(root: Path, removed: dict[Path, int], *, dry_run: bool = False) -> None:
    for path, count in removed.items():
        typer.echo(f"{'would remove' if dry_run else 'removed'} {path.relative_to(root)} ({size(count)})")
    total = sum(removed.values())
    if dry_run:
        typer.echo(f"{len(removed)} would be removed, {total} bytes would be freed; nothing has changed")
    else:
        typer.echo(f"{len(removed)} removed, {total} bytes freed")


def _signed_by(signature: bytes | None, content: bytes, trusted: TrustedKeys | None) -> str:
    if signature is None:
        return "none"
    if trusted is None:
        return "not checked; --trusted-keys FILE checks it"
    signer = trusted.signer(content, signature)
    return "by no trusted key, or changed after it was signed" if signer is None else f"by the trusted key {signer}"


def _task_row(store: Store, task: str) -> dict[str, JsonValue]:
    row: dict[str, JsonValue] = {"task": task, "live": None, "versions": [*store.versions(task)]}
    try:
        row["live"] = store.live(task)
        if row["live"] is None:
            return {**row, "withdrawn": store.is_withdrawn(task)}
        manifest = store.manifest(task)
    except StoreError as error:
        return {**row, "error": str(error)}
    return {
        **row,
        "problem": manifest.problem.value,
        "labels": [*manifest.labels],
        "backbone": manifest.backbone.name,
        "precisions": [precision.value for precision in manifest.graphs],
        "bytes": sum(blob.size for blob in manifest.blobs()),
    }


def _server_sentence(url: str, comparison: ServerComparison) -> str:
    answer = f"{url} answers with version {comparison.version}"
    if comparison.refused is None:
        return answer
    refused = "the content of `live`" if comparison.refused.version is None else f"version {comparison.refused.version}"
    return f"{answer} because it refused {refused}: {comparison.refused.reason} (see its log)"


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
            cure = f"run `mora-store activate {task} VERSION --store {quoted(store.root)}`"
            raise NotFoundError(f"version {live} does not exist; {cure}")
    except StoreError as error:
        typer.echo(f"BAD  {task} live: {plain(str(error))}")
        return False
    return True
