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
from service.web.hosts import AllowedHosts
from service.web.keys import ApiKeys, Client
from service.web.problems import problem_response

_PROBES = ("/livez", "/readyz")
_BEARER = re.compile(r"bearer +([\x21-\x7e]{1,256})", re.IGNORECASE)
_ANY_HOST = AllowedHosts(["*"])
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

    It checks the path that is routed.

    Args:
        hosts: the host names that the service answers for. Probes may name any, such as the address of a pod.
        keys: the accepted keys; None accepts every request.
        limit: for each key. Without keys all clients share it, because an address may be that of a proxy.
        open_paths: need no key and do not count against the limit, like the probes.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: AllowedHosts,
        keys: ApiKeys | None,
        limit: RateLimit | None,
        open_paths: Collection[str] = (),
    ) -> None:
        self._app = app
        self._hosts = hosts
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
        (_ANY_HOST if scope["path"] in _PROBES else self._hosts).check(scope)
        if scope["path"] in self._open_paths:
            return
        if self._keys is not None:
            client = _identify(scope, self._keys)
            record.client, record.allowed_tasks = client.name, client.tasks
            if client.tasks is not None and scope["path"] == "/metrics":
                raise ServiceError(Code.FORBIDDEN, "A key for some tasks cannot read the metrics of all.")
        if self._limit is not None:
            seconds = self._limit.take(record.client or "")
            if seconds > 0:
                detail = "Send requests less often; Retry-After gives the wait in seconds."
                raise ServiceError(Code.RATE_LIMITED, detail, math.ceil(seconds))


def _identify(scope: Scope, keys: ApiKeys) -> Client:
    headers = Headers(scope=scope).getlist("authorization")
    bearer = _BEARER.fullmatch(headers[0]) if len(headers) == 1 else None
    client = keys.client_of(bearer[1].encode()) if bearer else None
    if client is None:
        raise ServiceError(Code.UNAUTHORIZED, "Send one Authorization header: `Bearer` and a key of this service.")
    if client.has_expired():
        raise ServiceError(Code.UNAUTHORIZED, "The key has expired; ask the operator of the service for a new one.")
    return client
