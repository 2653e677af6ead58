"""The commands push, pull and follow of `mora-store`."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.console import Console

from model_store.describe.tables import plain, size
from model_store.errors import CorruptError
from model_store.manifest import Manifest
from model_store.messages import quoted
from model_store.signing import read_trusted_keys
from model_store.store import DEFAULT_STORE, Store
from model_store.store_options import StoreOption, TrustedOption, open_store
from model_store.transfer import Follower, TransferBar, open_remote
from model_store.transfer import pull as pull_version
from model_store.transfer import push as push_version

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="oci://HOST/REPOSITORY:TAG, s3://BUCKET/PREFIX (also gs:// and az://), hf://OWNER/NAME, or a folder. If a "
        "bucket, repository or folder holds several tasks, add :TASK.",
    ),
]
PlainHttpOption = Annotated[
    bool, typer.Option("--plain-http", help="For a registry or an object store without TLS.", show_default=False)
]


def push(
    version: Annotated[
        str, typer.Argument(metavar="TASK[@VERSION]", help="A task, and a version of it; by default the live one.")
    ],
    target: TargetArgument,
    store: StoreOption = DEFAULT_STORE,
    plain_http: PlainHttpOption = False,
) -> None:
    """Copy a version with its signature to TARGET, and point TARGET to it. Only files that TARGET lacks are sent."""
    match = re.fullmatch(r"([^@]*)(?:@([1-9][0-9]{0,17}))?", version)
    if match is None:
        problem = "is a task, or a task and a version: shop-kind or shop-kind@3"
        raise typer.BadParameter(problem, param_hint="TASK[@VERSION]")
    task, number = match.groups()
    opened = open_store(store)
    with closing(open_remote(target, plain_http=plain_http)) as remote, shown_transfer() as count:
        manifest = push_version(opened, task, None if number is None else int(number), remote, count)
    typer.echo(f"{task}: {target} points to version {manifest.version} ({size(count.moved_bytes)} sent)")


def pull(
    target: TargetArgument,
    activate: Annotated[bool, typer.Option("--activate", help="Make the version live.")] = False,
    store: StoreOption = DEFAULT_STORE,
    trusted_keys: TrustedOption = None,
    plain_http: PlainHttpOption = False,
) -> None:
    """Copy the version that TARGET points to into the store, with its number and signature.

    Only files that the store lacks are fetched, and all are verified before the version is visible. A pull that was
    killed is resumed.
    """
    trusted = read_trusted_keys(trusted_keys)
    with shown_transfer() as count:
        manifest = pull_version(target, store, activate=activate, trusted=trusted, plain_http=plain_http, count=count)
    task, version = manifest.task, manifest.version
    line = f"{task}: version {version} is in {store} ({size(count.moved_bytes)} fetched)"
    cure = f"`mora-store activate {task} {version} --store {quoted(store)}` makes it live"
    typer.echo(f"{line} and live" if activate or _is_live(store, manifest) else f"{line}; {cure}")


def follow(
    target: TargetArgument,
    seconds: Annotated[float, typer.Option(metavar="N", min=1, max=86_400, help="Time between two looks.")] = 30,
    keep: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="After each activation, remove old versions of the task except the N before the live one, as "
            "`mora-store prune` does; by default none is removed.",
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    trusted_keys: TrustedOption = None,
    plain_http: PlainHttpOption = False,
) -> None:
    """Pull and activate whatever TARGET points to, until SIGTERM. Prints a line for each change and each failure.

    A rollback or a withdrawal in this store lasts until TARGET points to another version, also if follow is restarted.
    """
    opened = Store(store, read_trusted_keys(trusted_keys))
    with closing(open_remote(target, plain_http=plain_http)) as remote, _ends_at_once(0):
        _log(f"following {target}, every {seconds:g} s")
        Follower(remote, opened, _log, keep=keep).run(seconds, Event())


def _is_live(store: Path, manifest: Manifest) -> bool:
    with suppress(CorruptError):  # `live` is damaged
        return Store(store).live(manifest.task) == manifest.version
    return False


def _log(line: str) -> None:
    typer.echo(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {plain(line)}", err=True)


@contextmanager
def shown_transfer(status: int | None = None) -> Iterator[TransferBar]:
    """A bar on the terminal, and an end at once on Ctrl-C, with this exit status or that of the signal."""
    count = TransferBar(Console(stderr=True))
    with _ends_at_once(status), count.bar:
        yield count


@contextmanager
def _ends_at_once(status: int | None) -> Iterator[None]:
    """End the process at SIGTERM and Ctrl-C without waiting for requests: a transfer may be killed at any time."""

    def end(number: int, frame: object) -> None:
        Console(stderr=True).show_cursor(True)
        os._exit(128 + number if status is None else status)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
