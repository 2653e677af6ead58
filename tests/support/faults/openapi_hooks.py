"""Loaded by schemathesis: what no schema says, the names of tasks that are there and what a picture is."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import schemathesis

from tests.support.faults.pictures import seeds

_MILLISECONDS = 60_000
_PICTURES = [b64encode(data).decode() for data in seeds()]


@schemathesis.hook
def map_body(context: object, body: Any) -> Any:
    """Three of four times, a body that gets past the names it has to know; never one whose time is over at once."""
    if isinstance(body, dict) and str(body.get("timeout_ms")).isdecimal():
        body = {**body, "timeout_ms": _MILLISECONDS + int(body["timeout_ms"])}
    if not isinstance(body, dict) or len(str(body)) % 4 == 0:
        return body
    changed: dict[str, object] = {name: "fruit" for name in ("task", "model") if isinstance(body.get(name), str)}
    if isinstance(body.get("tasks"), list):
        changed = {"tasks": ["fruit", "tags"]}
    if isinstance(body.get("image"), str):
        changed["image"] = _PICTURES[len(str(body)) % len(_PICTURES)]
    return {**body, **changed}
