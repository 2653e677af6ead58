"""The page of a pydantic model: its fields, and those of every model within it."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from docs.generation.tables import Schema, default_of, table, type_of


def models_page(introduction: str, model: type[BaseModel]) -> str:
    """A heading and a table for each model; the description of a field is the comment beside it in the source."""
    definitions: dict[str, Schema] = model.model_json_schema().get("$defs", {})
    found: dict[type[BaseModel], list[str]] = {}
    for place, inner in _within(model, ""):
        found.setdefault(inner, []).append(place)
    return introduction + "".join(_section(inner, places, definitions) for inner, places in found.items())


def _section(model: type[BaseModel], places: list[str], definitions: dict[str, Schema]) -> str:
    schema, meanings = model.model_json_schema(), comments(model)
    rows = [
        [f"`{name}`", type_of(field, definitions), default_of(name, schema), meanings.get(name, "")]
        for name, field in schema["properties"].items()
    ]
    where = "" if places == [""] else f"\n\nStands at {', '.join(f'`{place}`' for place in places)}."
    text = inspect.cleandoc(model.__doc__ or "")
    return f"\n## {model.__name__}\n\n{text}{where}\n\n" + table(["field", "type", "default", "meaning"], rows)


def _within(model: type[BaseModel], place: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield place, model
    for name, field in model.model_fields.items():
        for inner in _models_in(field.annotation):
            yield from _within(inner, f"{place}.{name}".lstrip("."))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401  (what pydantic gives)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def comments(model: type[BaseModel]) -> dict[str, str]:
    """The comment beside each field in the source of a model."""
    source = textwrap.dedent(inspect.getsource(model))
    said = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    (body,) = ast.parse(source).body
    fields = [node for node in ast.walk(body) if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    return {
        node.target.id: said[line]
        for node in fields
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if line in said and isinstance(node.target, ast.Name)
    }
