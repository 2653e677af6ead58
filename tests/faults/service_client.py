"""Asking a running service, as the store's fault tests do."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any

from tests.tiny import PICTURE

ITEM = {"task": "fruit", "image": base64.b64encode(PICTURE).decode(), "text": "a red apple"}


def ask(running: Any, path: str, body: dict | None = None) -> tuple[int, Any]:
    """Status and JSON of a GET, or of a POST where there is a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{running.base}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def label(running: Any) -> dict:
    """The parts of an answer that must not change: version, labels and scores of one fixed item."""
    status, answer = ask(running, "/classify", ITEM)
    assert status == 200, answer
    return {name: answer[name] for name in ("version", "labels", "modalities")}


def refusal(running: Any, task: str = "fruit") -> dict | None:
    """What the service says it refused."""
    status, told = ask(running, f"/tasks/{task}")
    assert status == 200, told
    return told["refused"]
