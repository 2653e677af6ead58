"""Access control before every route: the Host header, API keys and the rate limit.

Without a key only the two probes and paths that hold no data are open.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Code, ServiceError
from service.telemetry.record import RequestRecord
from service.web.keys import ApiKeys
from service.web.problems import problem_response

_PROBES = ("/livez", "/readyz")
_HOST = re.compile(r"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_BEARER = re.compile(r"bearer +([\x21-\x7e]{1,256})", re.IGNORECASE)
_ROUNDING = 1e-3  # part of a token that may be missing because clocks round; the client owes it


class RateLimit:
    """A token bucket for each client. It holds `burst` tokens and gets `per_second` a second; a request takes one.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and the time of that value

    def take(self, client: str) -> float:
        """Take a token: 0.0, or the seconds until the next token."""
        now = self._clock()
        tokens, updated = self._buckets.get(client, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - updated) * self._per_second)
        has_token = tokens >= 1 - _ROUNDING
        self._buckets[client] = (tokens - 1 if has_token else tokens), now
        return 0.0 if has_token else (1 - tokens) / self._per_second


class Access:
    """ASGI middleware inside `Observation`, whose record it uses.

    It checks the path that is routed. The Host header is checked and otherwise ignored.

    Args:
        keys: the accepted keys; None accepts every request.
        limit: for each key. Without keys all clients share it, because an address may be that of a proxy.
        open_paths: need no key and do not count against the limit, like the probes.
    """

    def __init__(
        self, app: ASGIApp, keys: ApiKeys | None, limit: RateLimit | None, open_paths: Collection[str] = ()
    ) -> None:
        self._app = app
        self._keys = keys
        self._limit = limit
        self._open_paths = frozenset([*_PROBES, *open_paths])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # no route accepts one
            await send({"type": "websocket.close"})
            return
        if scope["type"] == "http":
            record: RequestRecord = scope["state"]["record"]
            try:
                self._admit(scope, record)
            except ServiceError as error:
                record.problem = error.code.reason
                await problem_response(error, record.request_id, path=scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope, record: RequestRecord) -> None:
        """Raises ServiceError for a request that is refused."""
        _check_host(scope)
        if scope["path"] in self._open_paths:
            return
        if self._keys is not None:
            record.client = _identify(scope, self._keys)
        if self._limit is not None:
            seconds = self._limit.take(record.client or "")
            if seconds > 0:
                detail = "Send requests less often; Retry-After gives the wait in seconds."
                raise ServiceError(Code.RATE_LIMITED, detail, math.ceil(seconds))


def _check_host(scope: Scope) -> None:
    hosts = Headers(scope=scope).getlist("host")
    if not hosts and scope.get("http_version") == "1.0":  # HTTP/1.0 does not require this header
        return
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise ServiceError(Code.BAD_HOST, "Send one Host header: a name or an address, and optionally a port.")


def _identify(scope: Scope, keys: ApiKeys) -> str:
    headers = Headers(scope=scope).getlist("authorization")
    bearer = _BEARER.fullmatch(headers[0]) if len(headers) == 1 else None
    client = keys.client_of(bearer[1].encode()) if bearer else None
    if client is None:
        raise ServiceError(Code.UNAUTHORIZED, "Send one Authorization header: `Bearer` and a key of this service.")
    return client
