"""Which cells hold nothing."""

from __future__ import annotations


def is_missing(cell: object) -> bool:
    """Whether a cell has no value: null, empty, Unicode white space only, or not equal to itself as NaN and NaT are."""
    if isinstance(cell, str):
        return not cell or cell.isspace()
    return cell is None or cell == b"" or bool(cell != cell)
