"""Words and marks that people and programs write into a cell that has no value."""

from __future__ import annotations

from model_store.items.cells import is_missing

_WORDS = {
    *("na", "n/a", "n.a.", "#n/a", "<na>", "(na)", "nan", "nat", "null", "(null)", "nil", "none", "(none)"),
    *("undefined", "unknown", "missing", "empty"),
}


def reads_as_empty(text: str) -> bool:
    """Whether a text that is not blank stands for "no value": `NA`, `null`, `-`, `?`."""
    word = text.strip().lower()
    return not is_missing(word) and (word in _WORDS or not any(character.isalnum() for character in word))
