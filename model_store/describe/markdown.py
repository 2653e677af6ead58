"""Parts of a Markdown page, in which any text is escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

import yaml
from pydantic import JsonValue

from model_store.describe.tables import plain

# Markup inside a line: CommonMark, GitHub's tables and links, formulas, HTML.
_MARKUP = re.compile(r"[\\`*_\[\]<>&|~$@]|:(?=//)|(?<=www)\.")


def text(value: object) -> str:
    """A value as plain words for a line or a table cell. Entities, because renderers disagree about backslashes."""
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", plain(str(value)))


def table(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A table in GitHub's syntax; None becomes a dash."""
    names = [text(column) for column in columns]
    lines = [names, ["---"] * len(names), *(["-" if cell is None else text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def block(content: str, language: str) -> str:
    """A code block, whose fence is longer than any in the content."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", content)), default=0))
    return f"{fence}{language}\n{content.rstrip()}\n{fence}"


def as_yaml(values: Mapping[str, JsonValue]) -> str:
    """YAML in block style. Non-ASCII characters are escaped only if one of them is invisible."""
    visible = json.dumps(values, ensure_ascii=False).isprintable()
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=visible, width=110)
