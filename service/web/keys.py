"""API keys: a file of names and digests, reloaded when it changes. The keys themselves are not stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import structlog

from model_store.messages import describe_os_error

_NAME = r"[A-Za-z0-9._-]{1,64}"
_LINE = re.compile(rf"({_NAME})[ \t]+([0-9a-f]{{64}})")
_KEY = re.compile(r"[\x21-\x7e]{16,256}")
_log = structlog.get_logger()


class ApiKeys:
    """The keys of a file. `refresh` reloads the file if it has changed, and blocks.

    If the file becomes unusable, the previous keys stay valid. Raises OSError or ValueError if it is unusable at start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = path.read_bytes()
        self._clients = parse_keys(path, self._content)
        self._problem: str | None = None  # of the file, logged once

    def client_of(self, key: bytes) -> str | None:
        """The name of the key's client, None for an unknown key. Runs in constant time."""
        digest = hashlib.sha256(key).digest()
        client = None
        for known, name in self._clients.items():
            if hmac.compare_digest(known, digest):
                client = name
        return client

    def refresh(self) -> None:
        """Reload the file."""
        try:
            content = self._path.read_bytes()
            if content != self._content:
                self._clients = parse_keys(self._path, content)
                self._content = content
                _log.info("api_keys_loaded", clients=sorted(set(self._clients.values())))
            self._problem = None
        except (OSError, ValueError) as error:
            problem = describe_os_error(error) if isinstance(error, OSError) else str(error)
            if problem != self._problem:
                _log.error("api_keys_unusable", problem=problem)
            self._problem = problem


def parse_keys(path: Path, content: bytes) -> Mapping[bytes, str]:
    """Names by digest, from lines of `name sha256-hex`; `#` begins a comment. A name may have several keys.

    Raises ValueError with the number of an invalid line, but without its content.
    """
    clients: dict[bytes, str] = {}
    for number, line in enumerate(content.decode("ascii", errors="replace").splitlines(), start=1):
        entry = line.split("#")[0].strip()
        if not entry:
            continue
        match = _LINE.fullmatch(entry)
        if match is None:
            cure = "`mora-serve hash-key NAME` prints such a line"
            raise ValueError(f"{path}: line {number} is not `name sha256-hex`; {cure}")
        name, digest = match[1], bytes.fromhex(match[2])
        if clients.setdefault(digest, name) != name:
            raise ValueError(f"{path}: line {number} repeats the key of another name; remove one of the two")
    if not clients:
        raise ValueError(f"{path}: the file holds no key; `mora-serve hash-key NAME` prints a line for it")
    return clients


def make_key() -> str:
    """A new random key."""
    return secrets.token_urlsafe(32)


def key_line(name: str, key: str) -> str:
    """The line of the file for a key. Raises ValueError for an invalid name or a weak key."""
    if not re.fullmatch(_NAME, name):
        raise ValueError("a name has 1 to 64 letters, digits, dots, dashes and underscores")
    if not _KEY.fullmatch(key):
        raise ValueError("a key has 16 to 256 printable ASCII characters without spaces")
    return f"{name} {hashlib.sha256(key.encode()).hexdigest()}"
