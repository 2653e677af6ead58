"""HTTP requests to a registry: authentication, redirects, errors. Credentials go to the registry and its realm only."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple, Protocol
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import getproxies, parse_http_list, parse_keqv_list, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError

from model_store.transfer.docker_credentials import Credentials, find_credentials
from model_store.transfer.http_answers import describe, error_code, origin, read_all
from model_store.transfer.remote import CONNECT_SECONDS, PIECE_BYTES, READ_SECONDS, TransferError, UnreachableError

_API_HOSTS = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_MAX_REDIRECTS = 5
_MAX_ANSWER_BYTES = 64 * 1024  # of a token or an error
_TIMEOUT = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
_UPLOAD_TIMEOUT = urllib3.Timeout(connect=CONNECT_SECONDS, read=300.0)  # the registry verifies a blob before it answers
_REDIRECTS = {301, 302, 303, 307, 308}
_LATER = {429, 500, 502, 503, 504}


class Readable(Protocol):
    """A file, or what counts the bytes that are read from one."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        ...

    def seek(self, offset: int, /) -> int:
        """Go to a position."""
        ...


class Body(NamedTuple):
    """What a request sends: a file, read from its start each time."""

    file: Readable
    size: int


class RegistryConnection:
    """A repository of a registry. Threads share it."""

    def __init__(self, host: str, repository: str, *, plain_http: bool) -> None:
        self.host = host
        self._repository = repository
        self._scheme = "http" if plain_http else "https"
        self._base = f"{self._scheme}://{_API_HOSTS.get(host, host)}"
        self._authorization: str | None = None
        self._lock = threading.Lock()
        self._pools: dict[str | None, urllib3.PoolManager] = {}

    def close(self) -> None:
        """Close the idle connections."""
        for pool in self._pools.values():
            pool.clear()

    def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: Body | None = None
    ) -> urllib3.BaseHTTPResponse:
        """The answer to a request, whose content is not read yet; 404 is an answer too.

        Args:
            path: below /v2/REPOSITORY/, or the whole address that the registry gave for an upload.

        Raises:
            UnreachableError: there is no answer, or one that asks to try again later.
            TransferError: the registry refuses the request.
        """
        url = path if "://" in path else f"{self._base}/v2/{self._repository}/{path}"
        used = self._authorization
        response = self._follow(method, url, headers or {}, body, used)
        if response.status == HTTPStatus.UNAUTHORIZED:
            self._authorize(response, used)
            response = self._follow(method, url, headers or {}, body, self._authorization)
        if response.status < HTTPStatus.MULTIPLE_CHOICES or response.status == HTTPStatus.NOT_FOUND:
            return response
        raise self._refusal(method, response)

    def send(
        self, method: str, path: str, *, content_type: str | None = None, body: Body | None = None
    ) -> urllib3.BaseHTTPResponse:
        """The answer to a request whose content says nothing, such as that to an upload. Raises as `request`."""
        headers = {} if content_type is None else {"Content-Type": content_type}
        response = self.request(method, path, headers=headers, body=body)
        read_all(response, _MAX_ANSWER_BYTES, self.host)  # so that the connection can be used again
        return response

    def location(self, response: urllib3.BaseHTTPResponse) -> str:
        """The address in an answer's `Location`. Raises TransferError if it lacks one."""
        location = response.headers.get("Location")
        if not location:
            raise TransferError(f"{self.host} does not answer like a registry (no Location); correct the target")
        return self._joined(self._base, location)

    def _follow(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, authorization: str | None
    ) -> urllib3.BaseHTTPResponse:
        for _ in range(_MAX_REDIRECTS):
            own = {"Authorization": authorization} if authorization and origin(url) == origin(self._base) else {}
            response = self._send(method, url, {**headers, **own}, body)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            url = self._joined(url, location)
        raise TransferError(f"{self.host} redirects more than {_MAX_REDIRECTS} times; correct the target")

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None = None, fields: bytes | None = None
    ) -> urllib3.BaseHTTPResponse:
        sent: Readable | bytes | None = fields
        if body is not None:
            body.file.seek(0)
            sent, headers = body.file, {**headers, "Content-Length": str(body.size)}
        try:
            return self._pool(url).request(
                method,
                url,
                headers={"Accept-Encoding": "identity", "User-Agent": "mora-store", **headers},
                body=sent,  # type: ignore[arg-type] # urllib3 calls `read` alone
                timeout=_TIMEOUT if body is None else _UPLOAD_TIMEOUT,
                preload_content=False,
                redirect=False,
            )
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"{self._named(url)} gives no answer: {describe(error)}") from None

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        with self._lock:
            if proxy not in self._pools:
                make = (
                    urllib3.PoolManager if proxy is None else lambda **options: urllib3.ProxyManager(proxy, **options)
                )
                self._pools[proxy] = make(retries=False, maxsize=8, blocksize=PIECE_BYTES)
            return self._pools[proxy]

    def _joined(self, url: str, location: str) -> str:
        """An address that the registry refers to. Raises TransferError if it is invalid or has no TLS."""
        try:
            joined = urljoin(url, location)
            scheme, hostname, _ = origin(joined)
        except ValueError:
            scheme, hostname = "", None
        if not hostname or scheme not in ("http", "https"):
            raise TransferError(f"{self.host} refers to an invalid address; see the log of the registry")
        if scheme not in ("https", self._scheme):
            raise TransferError(f"{self.host} refers to an address without TLS; --plain-http allows this")
        return joined

    def _authorize(self, response: urllib3.BaseHTTPResponse, used: str | None) -> None:
        """Set the authorization that a 401 asks for, unless another thread has done so meanwhile."""
        challenge = response.headers.get("WWW-Authenticate", "")
        read_all(response, _MAX_ANSWER_BYTES, self.host)
        with_credentials = find_credentials(self.host)
        with self._lock:
            is_new = self._authorization == used
        if not is_new:
            return
        kind, _, parameters = challenge.partition(" ")
        values = parse_keqv_list([part for part in parse_http_list(parameters) if "=" in part])
        if kind.lower() == "bearer" and values.get("realm"):
            authorization = f"Bearer {self._token(values, with_credentials)}"
        elif kind.lower() == "basic" and with_credentials is not None and with_credentials.identity_token is None:
            authorization = with_credentials.basic()
        else:
            raise self._denied(HTTPStatus.UNAUTHORIZED)
        with self._lock:
            self._authorization = authorization

    def _token(self, challenge: Mapping[str, str], credentials: Credentials | None) -> str:
        """A token of the realm that the registry names, as docs.docker.com/registry/spec/auth describes."""
        realm = self._joined(self._base, challenge["realm"])
        fields = {name: challenge[name] for name in ("service", "scope") if challenge.get(name)}
        if credentials is not None and credentials.identity_token is not None:
            fields |= {"grant_type": "refresh_token", "client_id": "mora-store"}
            secret = urlencode({**fields, "refresh_token": credentials.identity_token}).encode()
            response = self._send("POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, fields=secret)
        else:
            own = {} if credentials is None else {"Authorization": credentials.basic()}
            joiner = "&" if urlsplit(realm).query else "?"
            response = self._send("GET", f"{realm}{joiner}{urlencode(fields)}", own)
        if response.status in _LATER:
            raise self._refusal("GET", response)
        try:
            answer = json.loads(read_all(response, _MAX_ANSWER_BYTES, self._named(realm)))
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if response.status != HTTPStatus.OK or not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise self._denied(response.status)
        return token

    def _refusal(self, method: str, response: urllib3.BaseHTTPResponse) -> TransferError:
        code = error_code(read_all(response, _MAX_ANSWER_BYTES, self.host))
        if response.status in _LATER:
            return UnreachableError(f"{self.host} answers {response.status}{code}; run this again later")
        if response.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) or code == " DENIED":
            return self._denied(response.status)
        if response.status in _REDIRECTS:
            return TransferError(f"{self.host} redirects to no address; correct the target")
        return TransferError(f"{self.host} answers {response.status}{code} to {method}; see the log of the registry")

    def _denied(self, status: int) -> TransferError:
        cure = f"run `docker login {self.host}` as a user with access (push needs write access)"
        return TransferError(f"{self.host} refuses access to {self._repository} ({status}); {cure}")

    def _named(self, url: str) -> str:
        host = urlsplit(url).hostname
        return self.host if origin(url) == origin(self._base) else f"{host}, to which {self.host} refers,"
