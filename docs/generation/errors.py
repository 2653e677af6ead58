"""The page of the problems that the service answers with."""

from __future__ import annotations

from docs.generation.tables import table
from service.errors import MEANINGS

INTRODUCTION = """\
# Errors

A request that is not answered gets a problem (RFC 9457, `application/problem+json`):

```json
{"type": "urn:mora:problem:missing_input", "title": "The item has neither image nor text", "status": 422,
 "detail": "...", "code": "missing_input", "request_id": "..."}
```

Programs go by `code`; `detail` is one sentence for people, and repeats nothing that was sent. `request_id` is also in
the header `X-Request-ID` and in the log. Under `/v2` there is `error` besides, for clients of the Open Inference
Protocol.
`mora_rejected_total{reason}` counts them. What to do about one: [When it is slow, wrong or down](../trouble.md).

"""


def errors_page() -> str:
    """The one table of codes, as the service has it."""
    rows = [
        [
            f"`{code}`",
            f"{meaning.status.value} {meaning.status.phrase}",
            meaning.title,
            f"`{meaning.reason or code}`",
            ", ".join(f"`{name}: {value}`" for name, value in meaning.headers.items()),
        ]
        for code, meaning in MEANINGS.items()
    ]
    return INTRODUCTION + table(["code", "status", "title", "reason in metrics", "headers"], rows)
