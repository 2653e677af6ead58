"""HTTP requests to a registry: authentication, redirects, errors. Credentials go to the registry and its realm only."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError

from model_store.transfer.http_answers import describe, error_code, is_loopback, origin, read_all
from model_store.transfer.registry_authorization import RegistryAuthorization
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
        self._authorization = RegistryAuthorization(host, repository)
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
        used = self._authorization.header
        response = self._follow(method, url, headers or {}, body, used)
        if response.status == HTTPStatus.UNAUTHORIZED:
            read_all(response, _MAX_ANSWER_BYTES, self.host)
            self._authorization.renew(response.headers.get("WWW-Authenticate", ""), used, self._ask)
            response = self._follow(method, url, headers or {}, body, self._authorization.header)
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
            if response.status == HTTPStatus.UNAUTHORIZED and origin(url) != origin(self._base):
                response.close()
                raise TransferError(f"{self._named(url)} refuses access (401); see the log of the registry")
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            url = self._joined(url, location)
        raise TransferError(f"{self.host} redirects more than {_MAX_REDIRECTS} times; correct the target")

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | bytes | None
    ) -> urllib3.BaseHTTPResponse:
        sent: Readable | bytes | None
        if isinstance(body, Body):
            body.file.seek(0)
            sent, headers = body.file, {**headers, "Content-Length": str(body.size)}
        else:
            sent = body
        try:
            return self._pool(url).request(
                method,
                url,
                headers={"Accept-Encoding": "identity", "User-Agent": "mora-store", **headers},
                body=sent,  # type: ignore[arg-type] # urllib3 calls `read` alone
                timeout=_UPLOAD_TIMEOUT if isinstance(body, Body) else _TIMEOUT,
                preload_content=False,
                redirect=False,
            )
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"{self._named(url)} gives no answer: {describe(error)}") from None

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        is_direct = is_loopback(parts.hostname or "") or proxy_bypass(parts.hostname or "")
        proxy = None if is_direct else getproxies().get(parts.scheme)
        with self._lock:
            if proxy not in self._pools:
                options: dict[str, Any] = {"retries": False, "maxsize": 8, "blocksize": PIECE_BYTES}
                self._pools[proxy] = (
                    urllib3.PoolManager(**options) if proxy is None else urllib3.ProxyManager(proxy, **options)
                )
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

    def _ask(self, method: str, address: str, headers: Mapping[str, str], form: bytes | None) -> tuple[int, bytes]:
        """Status and content of the answer of a realm."""
        realm = self._joined(self._base, address)
        response = self._send(method, realm, headers, form)
        if response.status in _LATER:
            raise self._refusal(method, response)
        return response.status, read_all(response, _MAX_ANSWER_BYTES, self._named(realm))

    def _refusal(self, method: str, response: urllib3.BaseHTTPResponse) -> TransferError:
        code = error_code(read_all(response, _MAX_ANSWER_BYTES, self.host))
        if response.status in _LATER:
            return UnreachableError(f"{self.host} answers {response.status}{code}; run this again later")
        if response.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) or code == " DENIED":
            return self._authorization.refusal(response.status)
        if response.status in _REDIRECTS:
            return TransferError(f"{self.host} redirects to no address; correct the target")
        return TransferError(f"{self.host} answers {response.status}{code} to {method}; see the log of the registry")

    def _named(self, url: str) -> str:
        host = urlsplit(url).hostname
        return self.host if origin(url) == origin(self._base) else f"{host}, to which {self.host} refers,"
