"""The page that documents the API. It needs no other host, so it works without the internet."""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

from service.web.package_files import PackageFiles

_ASSETS = "docs/assets"  # relative, so that links stay right behind a path prefix
_HTML = bytes(
    get_swagger_ui_html(
        openapi_url="openapi.json",
        title="MoRA inference service",
        swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{_ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{_ASSETS}/favicon.png",
        swagger_ui_parameters={"validatorUrl": None},  # or the page would ask swagger.io to check the document
    ).body
)
_INLINE = [hashlib.sha256(script).digest() for script in re.findall(rb"<script>(.*?)</script>", _HTML, re.DOTALL)]
_HASHES = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in _INLINE)
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self' {_HASHES}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The documentation of this API."""
    return HTMLResponse(_HTML, headers=_HEADERS)


def add_docs(app: FastAPI) -> None:
    """Add the page and its files."""
    app.include_router(router)
    app.mount(f"/{_ASSETS}", PackageFiles("fastapi_offline", "static"))
