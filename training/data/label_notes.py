"""Notes for the user on labels: rows without one, labels that look alike, and labels that look like an empty cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from model_store.items.cells import is_missing
from model_store.items.labels import label_cells, label_of
from model_store.items.rows import Row
from training.errors import first_few

Spellings = Counter[tuple[str, str]]  # number of rows by label and by the text in the file
_MAX_LISTED = 10
_MAX_PATH = 80  # characters
_EMPTY_WORDS = {"nan", "nat", "na", "n/a", "<na>", "null", "none"}


def spellings_of(rows: Iterable[Row], several: bool) -> Spellings:
    """How the labels of the rows are written; `several` if a row may have several labels."""
    cells = (cell for row in rows for cell in (label_cells(row["label"]) if several else [row["label"]]))
    return Counter((label, str(cell)) for cell in cells if (label := label_of(cell)) is not None)


def spelling_notes(spellings: Spellings) -> Iterator[str]:
    """Which labels were merged because they look alike, and which read like an empty cell."""
    written: dict[str, Spellings] = {}
    for (label, text), rows in spellings.items():
        written.setdefault(label, Counter())[label, text] = rows
    merged = [_merged(label, texts) for label, texts in written.items() if len(texts) > 1]
    if merged:
        yield f"merged labels that look alike: {first_few(merged, _MAX_LISTED)}"
    if words := [label for label in written if label.lower() in _EMPTY_WORDS]:
        yield f"these words are labels: {first_few(words, _MAX_LISTED)}; leave their cells empty if they mean no label"


def unlabelled_note(rows: Sequence[str], are_kept: bool) -> str:
    """How many rows have no label, which ones, and whether they were left out."""
    count, was, which = ("1 row has", "was", "row") if len(rows) == 1 else (f"{len(rows):,} rows have", "were", "rows")
    outcome = "kept, as items to which no label applies" if are_kept else "left out"
    return f"{count} no label and {was} {outcome}: {which} {first_few(rows, _MAX_LISTED)}"


def row_name(number: int, image: object) -> str:
    """The number of a row, with the path of its picture if it has one."""
    has_path = isinstance(image, str) and not is_missing(image)
    return f"{number} ({str(image).strip()[:_MAX_PATH]!r})" if has_path else str(number)


def _merged(label: str, texts: Spellings) -> str:
    counts = ", ".join(f"{rows:,} as {text!a}" for (_, text), rows in texts.most_common())
    return f"{label!r} ({texts.total():,} rows, {counts})"
