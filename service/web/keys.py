"""API keys: a file of names and digests, reloaded when it changes. The keys themselves are not stored."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import structlog

from model_store.manifest import TASK_NAME
from model_store.messages import describe_error

_NAME = r"[A-Za-z0-9._-]{1,64}"
_LINE = re.compile(rf"({_NAME})[ \t]+([0-9a-f]{{64}})((?:[ \t]+[a-z]+=[^ \t]*)*)")
_KEY = re.compile(r"[\x21-\x7e]{16,256}")
_log = structlog.get_logger()


@dataclass(frozen=True)
class Client:
    """The holder of a key.

    Attributes:
        tasks: the tasks that the key may use; None for all.
        last_day: the last day, in UTC, on which the key is valid; None for no end.
    """

    name: str
    tasks: frozenset[str] | None = None
    last_day: date | None = None

    def has_expired(self) -> bool:
        """Whether the last day is over."""
        return self.last_day is not None and datetime.now(UTC).date() > self.last_day


class ApiKeys:
    """The keys of a file. `refresh` reloads the file if it has changed, and blocks.

    If the file becomes unusable, the previous keys stay valid; if it holds no key, none is valid. Raises OSError or
    ValueError if it is unusable at start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = path.read_bytes()
        self._clients = parse_keys(path, self._content)
        self._problem: str | None = None  # of the file, logged once
        self._log_revocation()

    def client_of(self, key: bytes) -> Client | None:
        """The holder of a key, even if it has expired; None for an unknown key.

        The time of the search may depend on the digests, but it reveals no key: nobody can choose a key's digest.
        """
        return self._clients.get(hashlib.sha256(key).digest())

    def refresh(self) -> None:
        """Reload the file."""
        try:
            content = self._path.read_bytes()
            if content != self._content:
                self._clients = parse_keys(self._path, content)
                self._content = content
                _log.info("api_keys_loaded", keys=len(self._clients))
                self._log_revocation()
            self._problem = None
        except (OSError, ValueError) as error:
            problem = describe_error(error)
            if problem != self._problem:
                _log.error("api_keys_unusable", problem=problem)
            self._problem = problem

    def _log_revocation(self) -> None:
        if not self._clients:
            cure = "`mora-serve hash-key NAME` prints a line for it"
            _log.error("api_keys_revoked", problem=f"{self._path} holds no key, so every request is refused; {cure}")


def parse_keys(path: Path, content: bytes) -> Mapping[bytes, Client]:
    """Clients by digest, from lines of `name sha256-hex [tasks=NAME,NAME] [expires=YYYY-MM-DD]`.

    `#` begins a comment. A name may have several keys. Raises ValueError with the number of an invalid line, but
    without its content.
    """
    clients: dict[bytes, Client] = {}
    for number, line in enumerate(content.decode("ascii", errors="replace").splitlines(), start=1):
        entry = line.split("#")[0].strip()
        if not entry:
            continue
        match = _LINE.fullmatch(entry)
        if match is None:
            cure = "`mora-serve hash-key NAME` prints such a line"
            raise ValueError(f"{path}: line {number} is not `name sha256-hex`; {cure}")
        digest = bytes.fromhex(match[2])
        try:
            client = _client(match[1], match[3].split())
        except ValueError as error:
            raise ValueError(f"{path}: line {number}: {error}") from None
        if clients.setdefault(digest, client) != client:
            raise ValueError(f"{path}: line {number} repeats the key of another line; remove one of the two")
    return clients


def _client(name: str, options: Sequence[str]) -> Client:
    """Raises ValueError for an invalid option."""
    values = dict(option.split("=", 1) for option in options)
    if len(values) < len(options) or values.keys() - {"tasks", "expires"}:
        raise ValueError("after the digest come `tasks=NAME,NAME` and `expires=YYYY-MM-DD`, each at most once")
    tasks = values["tasks"].split(",") if "tasks" in values else None
    if tasks is not None and not all(re.fullmatch(TASK_NAME, task) for task in tasks):
        raise ValueError("`tasks=` takes names of tasks, separated by commas without spaces")
    expires = values.get("expires")
    if expires is not None and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", expires):
        raise ValueError("`expires=` takes a date such as 2027-01-31")
    try:
        last_day = None if expires is None else date.fromisoformat(expires)
    except ValueError as error:
        raise ValueError("`expires=` takes a date that exists") from error
    return Client(name, None if tasks is None else frozenset(tasks), last_day)


def make_key() -> str:
    """A new random key."""
    return secrets.token_urlsafe(32)


def key_line(name: str, key: str, tasks: Sequence[str] = (), expires: str | None = None) -> str:
    """The line of the file for a key. Raises ValueError for an invalid name, scope or date, or a weak key."""
    if not re.fullmatch(_NAME, name):
        raise ValueError("a name has 1 to 64 letters, digits, dots, dashes and underscores")
    if not _KEY.fullmatch(key):
        raise ValueError("a key has 16 to 256 printable ASCII characters without spaces")
    options = [*([f"tasks={','.join(tasks)}"] if tasks else []), *([f"expires={expires}"] if expires else [])]
    _client(name, options)
    return " ".join([name, hashlib.sha256(key.encode()).hexdigest(), *options])
