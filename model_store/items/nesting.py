"""How deep JSON may be nested: Python's recursion has a limit, which a deep value would reach somewhere."""

from __future__ import annotations

from pydantic import JsonValue

MAX_DEPTH = 32


def is_too_deep(value: JsonValue) -> bool:
    """Whether a value is nested deeper than MAX_DEPTH levels, of which a plain value is the last."""
    level = [value]
    for _ in range(MAX_DEPTH):
        nested = [node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list)]
        level = [child for children in nested for child in children]
        if not level:
            return False
    return True
