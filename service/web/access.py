"""Access control before every route: the Host header, API keys and the rate limit.

Without a key only the probes and paths that hold no data are open.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Code, ServiceError
from service.telemetry.record import RequestRecord
from service.web.hosts import AllowedHosts
from service.web.keys import ApiKeys, Client
from service.web.monitoring_paths import METRICS, MONITORING_PATHS, PROBES
from service.web.problems import problem_response
from service.web.rate_limit import RateLimit

_BEARER = re.compile(r"bearer +([\x21-\x7e]{1,256})", re.IGNORECASE)
_ANY_HOST = AllowedHosts(["*"])


class Access:
    """ASGI middleware inside `Observation`, whose record it uses.

    It checks the path that is routed.

    Args:
        hosts: the host names that the service answers for. Probes may name any, such as the address of a pod.
        keys: the accepted keys; None accepts every request.
        limit: for each key. Without keys all clients share it, because an address may be that of a proxy. Monitoring
            does not count against it.
        open_paths: need no key, like the probes.
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
        self._open_paths = PROBES.union(open_paths)

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
        path = scope["path"]
        (_ANY_HOST if path in PROBES else self._hosts).check(scope)
        if self._keys is not None:
            if path in self._open_paths:
                return
            client = _identify(scope, self._keys)
            record.client, record.allowed_tasks = client.name, client.tasks
            if client.tasks is not None and path == METRICS:
                raise ServiceError(Code.FORBIDDEN, "A key for some tasks cannot read the metrics of all.")
        if self._limit is not None and path not in MONITORING_PATHS:
            self._limit.charge(record.client or "")


def _identify(scope: Scope, keys: ApiKeys) -> Client:
    headers = Headers(scope=scope).getlist("authorization")
    bearer = _BEARER.fullmatch(headers[0]) if len(headers) == 1 else None
    client = keys.client_of(bearer[1].encode()) if bearer else None
    if client is None:
        raise ServiceError(Code.UNAUTHORIZED, "Send one Authorization header: `Bearer` and a key of this service.")
    if client.has_expired():
        raise ServiceError(Code.UNAUTHORIZED, "The key has expired; ask the operator of the service for a new one.")
    return client
