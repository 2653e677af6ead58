"""The field that a client probably meant by another name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

_SYNONYMS = {
    "image": ("attachment", "file", "img", "photo", "pic", "picture", "upload"),
    "text": ("caption", "content", "description", "prompt", "query", "sentence"),
    "task": ("model",),
    "tasks": ("model",),
    "inputs": ("instance", "item"),
    "top_k": ("k", "limit"),
    "labels": ("class", "classes", "prediction"),
    "scores": ("confidence", "logit", "probability", "probabilities"),
}
_LEAST_SIMILARITY = 0.7  # `img` and `image` have 0.75
_MOST_CHARACTERS = 64  # comparing takes longer than linear time


def closest_field(name: str, fields: Iterable[str]) -> str | None:
    """The field that is most like `name`, or whose synonym `name` contains; None if there is none."""
    name = name[:_MOST_CHARACTERS]
    words = {_word(field): field for field in fields}
    if match := get_close_matches(_word(name), words, n=1, cutoff=_LEAST_SIMILARITY):
        return words[match[0]]
    words |= {_word(synonym): field for field in words.values() for synonym in _SYNONYMS.get(field, ())}
    return next((words[part] for part in map(_word, re.split(r"[^A-Za-z]+", name)) if part in words), None)


def _word(name: str) -> str:
    """The letters of a name, in the singular: `image` for `Images[]`."""
    return re.sub(r"[^a-z]", "", name.lower()).removesuffix("s")
