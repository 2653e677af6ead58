"""Before every route: whether the request may pass. All are closed to those without a key but the two probes
and what holds no data."""

from __future__ import annotations

import math
import re
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Code, ServiceError
from service.telemetry.record import RequestRecord
from service.web.keys import ApiKeys
from service.web.problems import problem_response
from service.web.rate_limit import RateLimit

_PROBES = ("/livez", "/readyz")
_ANONYMOUS = ""
_HOST = re.compile(rb"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_BEARER = re.compile(rb"bearer +([\x21-\x7e]{1,256})", re.IGNORECASE)


class Access:
    """ASGI middleware, inside Observation, whose record it uses.

    It decides by the path alone that routing also sees; nothing is made of the Host header but its check.

    Args:
        keys: whose requests are answered; None: anybody's.
        open_paths: those that need no key and count for no limit, besides the probes.
        limit: by client; without keys there is one, since an address may be a proxy's and stand for many.
    """

    def __init__(
        self, app: ASGIApp, keys: ApiKeys | None, limit: RateLimit | None, open_paths: Collection[str] = ()
    ) -> None:
        self._app = app
        self._keys = keys
        self._limit = limit
        self._open_paths = frozenset([*_PROBES, *open_paths])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # no route has any
            await send({"type": "websocket.close"})
            return
        if scope["type"] == "http":
            record: RequestRecord = scope["state"]["record"]
            try:
                self._admit(scope, record)
            except ServiceError as error:
                record.problem = error.reason
                await problem_response(error, record.request_id, path=scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope, record: RequestRecord) -> None:
        """Raises ServiceError for a request that may not pass."""
        _check_host(scope)
        if scope["path"] in self._open_paths:
            return
        if self._keys is not None:
            record.client = _identify(scope, self._keys)
        if self._limit is not None:
            seconds = self._limit.take(record.client or _ANONYMOUS)
            if seconds > 0:
                raise ServiceError(
                    Code.RATE_LIMITED,
                    "Ask less often; Retry-After says when again.",
                    retry_after_seconds=math.ceil(seconds),
                )


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _check_host(scope: Scope) -> None:
    hosts = _values(scope, b"host")
    if not hosts and scope.get("http_version") == "1.0":  # which knows no such header
        return
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise ServiceError(Code.BAD_HOST, "Send one Host header with a name or an address, and perhaps a port.")


def _identify(scope: Scope, keys: ApiKeys) -> str:
    given = _values(scope, b"authorization")
    bearer = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
    client = keys.client_of(bearer[1]) if bearer else None
    if client is None:
        raise ServiceError(Code.UNAUTHORIZED, "Send one Authorization header: Bearer and a key of this service.")
    return client
