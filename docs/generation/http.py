"""The page of the HTTP API, from the OpenAPI document of the service."""

from __future__ import annotations

import json
from collections.abc import Mapping

from docs.generation.tables import Schema, default_of, table, title_of, type_of
from model_store import DEFAULT_STORE
from service.api.openapi import REQUEST_ID
from service.settings import Settings
from service.web.app import create_app

INTRODUCTION = """\
# HTTP API

This page is generated from the OpenAPI document of the service. A running service has the same document under `/docs`,
where you can try the requests, and as `/openapi.json`. A request that fails is answered with a
[problem](../errors.md). With [API keys](../reference.md#api-keys) every path needs `Authorization: Bearer <key>`,
except `/livez`, `/readyz` and the files of the [playground](../playground.md). The stages in `latency_ms` of an answer
are also in the header `Server-Timing`. A client may send an id of its own as `X-Request-ID`: at most 128 letters,
digits and `._:-`. The answer and the log repeat it.
"""


def http_page() -> str:
    """Every path, then every schema of a request or an answer."""
    document = create_app(Settings.model_validate({"store": DEFAULT_STORE})).openapi()
    schemas: Mapping[str, Schema] = document["components"]["schemas"]
    paths = [
        _operation(method.upper(), path, operation, schemas)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    described = [
        f"\n### {title_of(name)}\n\n{schema.get('description', '')}\n\n{_fields(schema, schemas)}"
        for name, schema in schemas.items()
        if "properties" in schema
    ]
    return INTRODUCTION + "".join(paths) + "\n## Schemas\n" + "".join(described)


def _operation(method: str, path: str, operation: Schema, schemas: Mapping[str, Schema]) -> str:
    text = f"\n## {method} {path}\n\n{operation.get('description', '')}\n\n"
    if parameters := [item for item in operation["parameters"] if item != REQUEST_ID]:
        rows = [[f"`{item['name']}`", item["in"], type_of(item["schema"], schemas)] for item in parameters]
        text += table(["parameter", "in", "type"], rows)
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        text += f"Body as `{kind}`: {type_of(content['schema'], schemas)}.\n\n" + _example(content)
    for status, answer in operation["responses"].items():
        content = answer.get("content", {}).get("application/json")
        if status.startswith("2") and content:
            text += f"Answers {status} with {type_of(content['schema'], schemas)}.\n"
    return text


def _example(content: Schema) -> str:
    example = content.get("example")
    return f"```json\n{json.dumps(example, indent=2)}\n```\n\n" if example else ""


def _fields(schema: Schema, schemas: Mapping[str, Schema]) -> str:
    rows = [
        [f"`{name}`", type_of(field, schemas), default_of(name, schema), field.get("description", "")]
        for name, field in schema.get("properties", {}).items()
    ]
    return table(["field", "type", "default", "meaning"], rows) if rows else ""
