"""Requests from web pages of other origins (CORS)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from service.web.tensors import HEADER_LENGTH

_EXPOSED = ("X-Request-ID", "Retry-After", "Server-Timing", "WWW-Authenticate", "Allow", HEADER_LENGTH)


class Cors(CORSMiddleware):
    """ASGI middleware around all others. It answers preflight requests, which browsers send without a key.

    Pages may send any header. Credentials that browsers add themselves, such as cookies, give a client no rights here.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),
            allow_private_network=True,  # such a page may ask a service in the network of its reader
            expose_headers=_EXPOSED,
        )


def cors_headers(origins: Collection[str], request: Headers) -> Mapping[str, str]:
    """The headers of `Cors` for an answer to malformed HTTP, which never reaches it."""
    origin = request.get("Origin", "")
    if "*" not in origins and origin not in origins:
        return {}
    allowed = "*" if "*" in origins else origin
    return {
        "Access-Control-Allow-Origin": allowed,
        "Access-Control-Expose-Headers": ", ".join(_EXPOSED),
        "Vary": "Origin",
    }
