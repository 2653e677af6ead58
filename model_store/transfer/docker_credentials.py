"""Credentials for a registry, from Docker's config.json and its credential helpers: what `docker login` keeps."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from dataclasses import field
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass
from pydantic_core import from_json

from model_store.transfer.remote import TransferError

_HUB_HOSTS, _HUB_KEY = ("docker.io", "index.docker.io", "registry-1.docker.io"), "https://index.docker.io/v1/"
_HELPER_SECONDS = 30
_TOKEN_USER = "<token>"  # noqa: S105 - in its place a helper gives an identity token as the secret


@dataclass(frozen=True)
class Credentials:
    """A user and a password, or an identity token, which is exchanged for tokens. `repr` shows neither.

    Raises ValueError for a value that is no text.
    """

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str | None = field(default=None, repr=False)

    def basic(self) -> str:
        """The value of an `Authorization` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find_credentials(host: str) -> Credentials | None:
    """The credentials for a registry, or None if the user has none. Raises TransferError, without any content."""
    # Path.home raises RuntimeError for a user without a home
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")  # noqa: PTH111
    path = Path(folder) / "config.json"
    try:
        config = from_json(path.read_bytes())  # unlike `json`, it refuses text that UTF-8 cannot encode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        cure = "correct it, or make it again with `docker login`"
        raise TransferError(f"{path} cannot be read as JSON ({type(error).__name__}); {cure}") from None
    names = [_HUB_KEY, *_HUB_HOSTS] if host in _HUB_HOSTS else [host, f"https://{host}", f"http://{host}"]
    try:
        return _of_helper(config, names) or _of_file(config, names)
    except (AttributeError, LookupError, TypeError, ValueError):
        raise TransferError(
            f"{path} has an invalid entry for {host}; make it again with `docker login {host}`"
        ) from None


def _of_helper(config: dict[str, Any], names: list[str]) -> Credentials | None:
    helpers = config.get("credHelpers") or {}
    own = [(helpers[name], name) for name in names if name in helpers]
    everywhere = [(config["credsStore"], name) for name in names] if config.get("credsStore") else []
    for helper, name in own or everywhere:
        credentials = _ask(helper, name)
        if credentials is not None:
            return credentials
    return None


def _ask(helper: str, name: str) -> Credentials | None:
    program = f"docker-credential-{helper}"
    if not re.fullmatch(r"[\w.-]+", helper):
        raise ValueError
    try:
        done = subprocess.run(
            [program, "get"], input=name, capture_output=True, text=True, timeout=_HELPER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        cure = "install it, or remove it from Docker's config.json"
        raise TransferError(f"{program} does not run ({type(error).__name__}); {cure}") from None
    if done.returncode != 0:
        if "not found" in done.stdout + done.stderr:
            return None
        raise TransferError(f"{program} failed with status {done.returncode}; run `docker login` again") from None
    answer = from_json(done.stdout)
    if answer["Username"] == _TOKEN_USER:
        return Credentials(identity_token=answer["Secret"])
    return Credentials(answer["Username"], answer["Secret"])


def _of_file(config: dict[str, Any], names: list[str]) -> Credentials | None:
    auths = config.get("auths") or {}
    by_host = {_without_path(key): value for key, value in auths.items()} | auths
    for name in names:
        entry = by_host.get(name) or {}
        if entry.get("identitytoken"):
            return Credentials(identity_token=entry["identitytoken"])
        if entry.get("auth"):
            user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
            return Credentials(user, password)
        if entry.get("username"):
            return Credentials(entry["username"], entry["password"])
    return None


def _without_path(key: str) -> str:
    """Old entries are addresses, such as https://HOST/v1/."""
    return key.split("://")[-1].split("/")[0]
