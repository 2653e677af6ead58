"""Pieces of a Markdown page that stay what they are whatever text is put into them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

import yaml
from pydantic import JsonValue

from model_store.describe.tables import plain

# What means something inside a line, in CommonMark, GitHub's tables and links, formulas or HTML.
_MARKUP = re.compile(r"[\\`*_\[\]<>&|~$@]|:(?=//)|(?<=www)\.")


def text(value: object) -> str:
    """A value as words within a line or a table's cell. Entities, since not every renderer takes a backslash alike."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", plain(str(value)))


def table(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A table of GitHub's kind; None is a dash."""
    names = [text(column) for column in columns]
    lines = [names, ["---"] * len(names), *(["-" if cell is None else text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def block(content: str, language: str) -> str:
    """Lines as they are, within a fence longer than any in them."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", content)), default=0))
    return f"{fence}{language}\n{content.rstrip()}\n{fence}"


def as_yaml(values: Mapping[str, JsonValue]) -> str:
    """Block style; letters of every script as they are, unless there is one that a reader would not see."""
    seen = json.dumps(values, ensure_ascii=False).isprintable()
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=seen, width=110)
