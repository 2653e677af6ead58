"""Markdown tables, and the types of JSON schemas in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]
_MOST_WORDS = 10  # of an enumeration that a cell lists in full
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a blank line after it; cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines) + "\n"


def type_of(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    """The type of a value in words; a model is a link to its heading."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        found = definitions[name]
        title = title_of(name)
        return f"[{title}](#{title.lower()})" if "properties" in found else type_of(found, definitions)
    if "anyOf" in schema:
        return " or ".join(type_of(option, definitions) for option in schema["anyOf"])
    if len(schema.get("enum", [])) > _MOST_WORDS:
        return f"one of {len(schema['enum'])} words"
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(type_of(item, definitions) for item in schema['prefixItems'])}]"
        return f"list of {type_of(schema.get('items', {}), definitions)}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        keys = type_of(schema["propertyNames"], definitions) if "propertyNames" in schema else "any name"
        return f"object from {keys} to {type_of(schema['additionalProperties'], definitions)}"
    return _plain(schema)


def title_of(name: str) -> str:
    """The name of a schema without the module, which pydantic adds if two schemas have the same name."""
    return name.rsplit("__", 1)[-1]


def default_of(name: str, schema: Schema) -> str:
    """The default of a property as JSON; empty if there is none, and for a model, whose fields have their own."""
    value = schema["properties"][name].get("default", ...)
    is_model = isinstance(value, Mapping) and bool(value)
    return "" if value is ... or is_model else f"`{json.dumps(value, ensure_ascii=False)}`"


def _plain(schema: Schema) -> str:
    words = [schema.get("type", "any JSON")]
    words += [f"{sign} {schema[bound]:.12g}" for bound, sign in _BOUNDS.items() if bound in schema]
    words += [f"like `{schema['pattern']}`"] if "pattern" in schema else []
    words += [f"({schema['format']})"] if "format" in schema else []
    words += [f"({schema['contentEncoding']})"] if "contentEncoding" in schema else []
    return " ".join(words)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
