"""Options that several commands of `mora-store` share, and the store that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_store.errors import NotFoundError
from model_store.signing import read_trusted_keys
from model_store.store import Store


def store_folder(value: str | Path) -> Path:
    """The folder that an option names. Raises BadParameter for a target, such as MORA_STORE of a service may name."""
    if "://" in str(value):
        cure = "name a folder; a service that pulls has one in MORA_STORE_CACHE, and `mora-store pull` fills any other"
        raise typer.BadParameter(f"a target is no folder on this machine; {cure}")
    return Path(value)


StoreOption = Annotated[
    Path,
    typer.Option(
        "--store",
        metavar="DIR",
        envvar="MORA_STORE",
        parser=store_folder,
        show_default=False,
        help="Folder of the store; by default the shipped one.",
    ),
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


def open_store(root: Path, trusted_keys: Path | None = None, option: str = "--store") -> Store:
    """The store in a folder. Raises NotFoundError, which names the option, if there is no such folder."""
    if not root.is_dir():
        raise NotFoundError(f"no model store at {root}: it is not a folder; {option} names the folder of a store")
    return Store(root, read_trusted_keys(trusted_keys))
