"""The API key of a command. It comes from a file or the environment, because `ps` would show an argument."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

VARIABLE = "MORA_API_KEY"
_KEY = re.compile(r"[\x21-\x7e]{1,256}")

ApiKeyFileOption = Annotated[
    Path | None,
    typer.Option("--api-key-file", metavar="FILE", help=f"File with the key for the service; by default ${VARIABLE}."),
]


def read_api_key(file: Path | None) -> str | None:
    """The content of the file, by default $MORA_API_KEY; None if that is unset or empty. Raises OSError."""
    if file is None:
        return os.environ.get(VARIABLE) or None
    return file.read_text(encoding="ascii", errors="replace").strip()


def authorization(api_key: str | None) -> dict[str, str]:
    """The request header with the key. Raises ValueError for an invalid key, which the message does not repeat."""
    if api_key is None:
        return {}
    if not _KEY.fullmatch(api_key):
        raise ValueError("an API key has 1 to 256 printable ASCII characters without spaces")
    return {"Authorization": f"Bearer {api_key}"}
