"""Query parameters, which only GET requests may have."""

from __future__ import annotations

import re

from fastapi import Request

from service.errors import Code, ServiceError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")  # of a field; anything else is not repeated
_MAX_NAMES = 5


async def refuse_query(request: Request) -> None:
    """The dependency of every route: a POST takes its fields from the body. Raises ServiceError."""
    if request.method == "POST" and request.query_params:
        names = [name for name in request.query_params if _NAME.fullmatch(name)]
        named = f" ({', '.join(names[:_MAX_NAMES])})" if names else ""
        raise ServiceError(Code.EXTRA_FIELD, f"POST takes no query parameters{named}; send the fields in the body.")
