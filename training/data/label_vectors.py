"""Lists with a number for every label of the task, in place of the labels that apply to a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from model_store.items.cells import is_missing
from model_store.items.labels import label_cells
from training.errors import DataError

_TRUTHS = {"true": 1.0, "false": 0.0}
_USUAL_SHARE = 0.9  # of the lists, which have one length; the others are damaged
_SHOWN_NUMBERS = 8


def refuse_label_vectors(source: str, cells: Iterable[object], column: str) -> None:
    """Refuse a column of multi-hot lists or of probabilities: read as labels, its numbers would become the labels.

    Such lists have one length, and numbers up to 1. Lists with several booleans are refused at any length.

    Raises DataError.
    """
    lists = [label_cells(cell) for cell in cells if not is_missing(cell)]
    lengths = Counter(map(len, filter(None, lists)))
    length, rows = max(lengths.items(), key=lambda item: item[1], default=(0, 0))
    numbers = [_number(each) for several in lists for each in several]
    has_one_length = length > 1 and rows >= _USUAL_SHARE * lengths.total()
    are_booleans = any(sum(isinstance(each, bool) for each in several) > 1 for several in lists)
    if are_booleans or (has_one_length and all(number is not None and -1 <= number <= 1 for number in numbers)):
        example = next(several for several in lists if len(several) > 1)
        shown = ", ".join(map(str, example[:_SHOWN_NUMBERS])) + (", ..." if len(example) > _SHOWN_NUMBERS else "")
        problem = f"{source}: column {column} has lists such as [{shown}], which look like a 0 or 1 for every label"
        raise DataError(f"{problem}; write the names of the labels that apply to each row, as in ['red', 'round']")


def _number(cell: object) -> float | None:
    """The number in a cell, 0 for an empty one; None for anything else."""
    if is_missing(cell):
        return 0.0
    if isinstance(cell, str):
        cell = _TRUTHS.get(cell.strip().lower(), cell)
    try:
        return float(cell)  # type: ignore[arg-type]
    except (OverflowError, TypeError, ValueError):
        return None
