"""The documents of the repository, and what stands in them: links, headings, code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
_PLACES = ["*.md", "docs/**/*.md", "examples/**/*.md", "benchmarks/**/*.md", "docker/**/*.md"]
_PARTS = {*ROOT.glob("benchmarks/results/*/findings.md")}  # they stand in the serving.md beside them
DOCUMENTS = sorted({path for place in _PLACES for path in ROOT.glob(place)} - _PARTS)
_PARSER = MarkdownIt().enable("table")


class Block(NamedTuple):
    """A block of code; `line` is that of its first line, counted from 1. Indented blocks have no language."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> Iterator[Block]:
    """The blocks of code in their order."""
    for token in _PARSER.parse(document.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block") and token.map:
            first = token.map[0] + (2 if token.type == "fence" else 1)
            yield Block(document, first, token.info.strip(), token.content)


def links(text: str) -> list[str]:
    """What links and pictures lead to."""
    attributes = {"link_open": "href", "image": "src"}
    return [str(token.attrs[attributes[token.type]]) for token in _inline(text) if token.type in attributes]


def spans(text: str) -> list[str]:
    """Code within sentences, on one line each."""
    return [" ".join(token.content.split()) for token in _inline(text) if token.type == "code_inline"]


def anchors(text: str) -> set[str]:
    """What `#...` can name: headings, in lower case, words joined by dashes; the second of a name has -1."""
    tokens, seen, found = _PARSER.parse(text), Counter[str](), set()
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            words = "".join(child.content for child in token.children or [])
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def _inline(text: str) -> Iterator[Token]:
    for token in _PARSER.parse(text):
        yield from token.children or []
