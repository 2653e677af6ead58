"""The code of a problem, in whichever form an API gives it."""

from __future__ import annotations

from typing import Any


def code_of(body: dict[str, Any]) -> str | None:
    """Of the body of a response; None if it is an answer."""
    error = body.get("error")  # an object in OpenAI's form, a text in that of the Open Inference Protocol
    code: str | None = (error if isinstance(error, dict) else body).get("code")
    return code
