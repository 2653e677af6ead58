"""The playground: a page that asks this service. It holds no data, so it is open to those without a key."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_INDEX = "index.html"
_MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
# Labels and texts come from outside: no script but the page's own runs, and nothing turns a string into markup.
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked for again by its ETag
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_routes() -> list[Route]:
    """A route for each file of `service/playground`, read now; its index is `/`. The page's own links are relative."""
    folder = files("service") / "playground"
    return [_route(file.name, file.read_bytes()) for file in folder.iterdir() if _kind(file.name) in _MEDIA_TYPES]


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _route(name: str, content: bytes) -> Route:
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    headers = {**_HEADERS, "ETag": etag}

    async def answer(request: Request) -> Response:
        known = (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(","))
        if etag in known:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=_MEDIA_TYPES[_kind(name)])

    return Route("/" if name == _INDEX else f"/playground/{name}", answer, include_in_schema=False)
