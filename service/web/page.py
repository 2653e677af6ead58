"""The playground: a page that asks this service. It holds no data, so it is open to those without a key."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files

from fastapi import APIRouter, Request, Response

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


def page_files() -> dict[str, bytes]:
    """The files of `service/playground`, read now, by path; the index is `/`, and all links are relative."""
    found = [file for file in (files("service") / "playground").iterdir() if _kind(file.name) in _MEDIA_TYPES]
    return {"/" if file.name == _INDEX else f"/playground/{file.name}": file.read_bytes() for file in found}


def page_router(page: Mapping[str, bytes]) -> APIRouter:
    """Answers with files by path, and with nothing to a browser that has them already."""
    router = APIRouter(include_in_schema=False)
    for path, content in page.items():
        router.add_api_route(path, _answering(content, _MEDIA_TYPES[_kind(_INDEX if path == "/" else path)]))
    return router


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _answering(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    headers = {**_HEADERS, "ETag": etag}

    async def answer(request: Request) -> Response:
        known = (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(","))
        if etag in known:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return answer
