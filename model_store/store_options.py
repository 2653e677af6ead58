"""Options that several commands of `mora-store` share, and the store that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_store.errors import NotFoundError
from model_store.signing import read_trusted_keys
from model_store.store import Store

StoreOption = Annotated[
    Path,
    typer.Option("--store", metavar="DIR", show_default=False, help="Folder of the store; by default the shipped one."),
]
TrustedOption = Annotated[
    Path | None,
    typer.Option(
        "--trusted-keys",
        metavar="FILE",
        envvar="MORA_TRUSTED_KEYS",
        help="File of public keys (PEM). A version must be signed with one of them.",
    ),
]


def open_store(root: Path, trusted_keys: Path | None = None) -> Store:
    """The store in a folder. Raises NotFoundError if there is no such folder."""
    if not root.is_dir():
        raise NotFoundError(f"no model store at {root}: it is not a folder; name the folder of a store with --store")
    return Store(root, read_trusted_keys(trusted_keys))
