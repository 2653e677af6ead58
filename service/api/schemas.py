"""JSON schemas for OpenAPI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, JsonValue


def self_contained(form: type[BaseModel]) -> dict[str, Any]:
    """The schema of a form without references, which would lead nowhere from inside an OpenAPI document."""
    schema = form.model_json_schema()
    definitions = schema.get("$defs", {})
    return {name: _inlined(part, definitions) for name, part in schema.items() if name != "$defs"}


def _inlined(schema: JsonValue, definitions: Mapping[str, JsonValue]) -> JsonValue:
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[str(schema["$ref"]).rsplit("/", 1)[1]], definitions)
    return {name: _inlined(part, definitions) for name, part in schema.items() if name != "$defs"}
