"""The right to use one repository of a registry: a password, or a token of the realm that the registry names."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import urlencode
from urllib.request import parse_http_list, parse_keqv_list

from model_store.transfer.docker_credentials import Credentials, find_credentials
from model_store.transfer.remote import TransferError

# (method, address, headers, form) -> status and content
Ask = Callable[[str, str, Mapping[str, str], bytes | None], tuple[int, bytes]]
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class RegistryAuthorization:
    """The `Authorization` header of a repository, made when the registry asks for it. Threads share it."""

    def __init__(self, host: str, repository: str) -> None:
        self.header: str | None = None
        self._host = host
        self._repository = repository
        self._lock = threading.Lock()

    def renew(self, challenge: str, used: str | None, ask: Ask) -> None:
        """Do what a registry's `WWW-Authenticate` asks for, unless another thread has done so since `used`.

        Args:
            ask: sends a request to the address of a realm.

        Raises:
            TransferError: the user has no right to the repository.
        """
        with self._lock:
            if self.header == used:
                self.header = self._header(challenge, find_credentials(self._host), ask)

    def refusal(self, status: int) -> TransferError:
        """The error for a user without the right."""
        cure = f"run `docker login {self._host}` as a user with access (push needs write access)"
        return TransferError(f"{self._host} refuses access to {self._repository} ({status}); {cure}")

    def _header(self, challenge: str, credentials: Credentials | None, ask: Ask) -> str:
        kind, _, parameters = challenge.partition(" ")
        values = parse_keqv_list([part for part in parse_http_list(parameters) if re.search("=.", part)])
        if kind.lower() == "bearer" and values.get("realm"):
            return f"Bearer {self._token(values, credentials, ask)}"
        if kind.lower() == "basic" and credentials is not None and credentials.identity_token is None:
            return credentials.basic()
        raise self.refusal(HTTPStatus.UNAUTHORIZED)

    def _token(self, challenge: Mapping[str, str], credentials: Credentials | None, ask: Ask) -> str:
        """A token as docs.docker.com/registry/spec/auth describes it."""
        realm = challenge["realm"]
        fields = {name: challenge[name] for name in ("service", "scope") if challenge.get(name)}
        if credentials is not None and credentials.identity_token is not None:
            fields |= {"grant_type": "refresh_token", "client_id": "mora-store"}
            form = urlencode({**fields, "refresh_token": credentials.identity_token}).encode()
            status, content = ask("POST", realm, _FORM, form)
        else:
            own = {} if credentials is None else {"Authorization": credentials.basic()}
            joiner = "&" if "?" in realm else "?"
            status, content = ask("GET", f"{realm}{joiner}{urlencode(fields)}", own, None)
        try:
            answer = json.loads(content)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if status != HTTPStatus.OK or not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise self.refusal(status)
        return token
