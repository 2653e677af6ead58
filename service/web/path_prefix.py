"""The path prefix of a reverse proxy."""

from __future__ import annotations

from collections.abc import Collection

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


def check_prefix(prefix: str, paths: Collection[str]) -> None:
    """Raise ValueError for a prefix that could be the beginning of one of the service's paths."""
    first = prefix.split("/")[1]
    if first in {path.split("/")[1] for path in paths}:
        raise ValueError(f"--root-path (MORA_ROOT_PATH): /{first} is a path of the service; choose another prefix")


class PathPrefix:
    """ASGI middleware around all others: it removes the prefix from paths, unless the proxy has removed it.

    The prefix itself is redirected to the prefix with a slash, where the relative links of the playground are right.

    Args:
        prefix: begins with a slash and does not end with one.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == self._prefix:
            await RedirectResponse(f"{self._prefix}/")(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"].startswith(f"{self._prefix}/"):
            scope = {**scope, "path": scope["path"].removeprefix(self._prefix), "root_path": ""}
        await self._app(scope, receive, send)
