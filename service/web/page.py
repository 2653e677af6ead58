"""The playground's files. They hold no data, so they need no key."""

from __future__ import annotations

import os
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_INDEX = "index.html"
# Labels and texts come from outside: only the page's own scripts run, and nothing turns a string into markup.
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",  # a browser keeps the file and asks with its ETag whether it has changed
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
router = APIRouter(include_in_schema=False)


class _PageFiles(StaticFiles):
    """The files of `service/playground`, with security headers."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        if str(full_path).endswith(".js"):  # some systems' tables of media types have an obsolete name
            response.headers["Content-Type"] = "text/javascript; charset=utf-8"
        return response


_files = _PageFiles(packages=[("service", "playground")])


def page_paths() -> list[str]:
    """The path of each file. All links are relative, and the index is at `/`."""
    names = [file.name for file in (files("service") / "playground").iterdir()]
    return ["/" if name == _INDEX else f"/playground/{name}" for name in names]


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    """The page itself."""
    return await _files.get_response(_INDEX, request.scope)


@router.api_route("/playground/{name}", methods=["GET", "HEAD"])
async def page_file(name: str, request: Request) -> Response:
    """A script, a style sheet or a picture of the page."""
    return await _files.get_response(name, request.scope)
