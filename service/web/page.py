"""The playground's files, which need no API key because they contain no data."""

from __future__ import annotations

import os
from importlib.resources import files

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.types import Scope

from service.web.package_files import PackageFiles

_INDEX = "index.html"
# Labels and texts are untrusted: only the page's own scripts may run, and they cannot turn a string into markup.
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",  # a browser keeps the file, and revalidates it by its ETag
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
router = APIRouter(include_in_schema=False)


class _PageFiles(PackageFiles):
    """The files of `service/playground`, with security headers."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        if str(full_path).endswith(".js"):  # the media type of some systems is obsolete
            response.headers["Content-Type"] = "text/javascript; charset=utf-8"
        return response


_files = _PageFiles("service", "playground")


def page_paths() -> list[str]:
    """The path of each file; the index is at `/`. All links between them are relative."""
    names = [file.name for file in (files("service") / "playground").iterdir()]
    return ["/" if name == _INDEX else f"/playground/{name}" for name in names]


@router.get("/")
@router.get("/playground/{name}")
async def page_file(request: Request) -> Response:
    """The page at `/`, or a script, a style sheet or a picture of it."""
    name = request.path_params.get("name")
    if name == _INDEX:  # its relative links are right at `/` only
        raise HTTPException(404)
    return await _files.get_response(name or _INDEX, request.scope)
