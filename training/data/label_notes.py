"""Notes for the user on labels: rows without one, labels that look alike, and labels that look like a mistake."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from model_store.items.cells import is_missing
from model_store.items.labels import label_cells, label_of
from model_store.items.rows import Row
from training.data.empty_words import reads_as_empty
from training.errors import first_few

Spellings = Counter[tuple[str, str]]  # number of rows by label and by the text in the file
_MAX_LISTED = 10
_MAX_PATH = 80  # characters
_SEPARATOR = re.compile(r"\s*[|;,/]\s*")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,9})?")
_LIST = re.compile(r"[\[({].*[\])}]")


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
    if words := [label for label in written if reads_as_empty(label)]:
        yield f"these words are labels: {first_few(words, _MAX_LISTED)}; leave their cells empty if they mean no label"


def likeness(label: str) -> object:
    """A key that labels share if they differ only in case, in forms of the same characters, or as 1 and 1.0 do."""
    plain = unicodedata.normalize("NFKC", label).casefold()
    return Decimal(plain) if _NUMBER.fullmatch(plain) else plain


def similar_notes(counts: Mapping[str, int]) -> Iterator[str]:
    """Which labels differ only in case, in forms of the same characters such as full width, or in spelling a number."""
    groups: dict[object, list[str]] = {}
    for label in counts:
        groups.setdefault(likeness(label), []).append(label)
    for are_numbers, difference in (
        (False, "in case or in the form of characters"),
        (True, "in how a number is written"),
    ):
        similar = [
            " and ".join(f"{label!r} ({counts[label]:,})" for label in group)
            for key, group in groups.items()
            if len(group) > 1 and isinstance(key, Decimal) is are_numbers
        ]
        if similar:
            yield (
                f"labels that differ only {difference}: {first_few(similar, _MAX_LISTED)}; "
                "write them alike if they are one label"
            )


def joined_notes(counts: Mapping[str, int], column: str, is_multi: bool) -> Iterator[str]:
    """Which labels look like a list that was joined into one text, such as `red|round` or `['red', 'round']`.

    Commas, semicolons and slashes also occur in names. There, a label is listed if a part of it is a label too, or a
    part of another label.
    """
    parts = {label: [part for part in _SEPARATOR.split(label) if part] for label in counts}
    known = Counter(part for label, several in parts.items() for part in {*several, label})
    joined = [
        label
        for label, several in parts.items()
        if _LIST.fullmatch(label) or "|" in label or (len(several) > 1 and any(known[part] > 1 for part in several))
    ]
    if joined:
        cure = 'a csv file joins labels by "|"' if is_multi else "if they are, set problem: multi_label"
        rows = sum(counts[label] for label in joined)
        shown = first_few([repr(label) for label in joined], _MAX_LISTED)
        yield f"labels of {rows:,} rows of column {column} look like lists in one text: {shown}; {cure}"


def unseen_notes(labels: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Which labels no item of a split has. Its scores say nothing about them.

    Args:
        counts: of `validation` and `test`, the items by label.
    """
    for split, of_label in counts.items():
        if unseen := [label for label in labels if not of_label.get(label)]:
            shown = first_few(unseen, _MAX_LISTED)
            yield f"no item of {split} has {len(unseen):,} of the {len(labels):,} labels: {shown}"


def unlabelled_note(rows: Sequence[str], are_kept: bool) -> str:
    """How many rows have no label, which ones, and whether they were left out."""
    count, was, which = ("1 row has", "was", "row") if len(rows) == 1 else (f"{len(rows):,} rows have", "were", "rows")
    outcome = "kept, as items to which no label applies" if are_kept else "left out"
    return f"{count} no label and {was} {outcome}: {which} {first_few(rows, _MAX_LISTED)}"


def row_name(number: int, image: object) -> str:
    """The number of a row, with the path of its picture if it has one."""
    has_path = isinstance(image, str) and not is_missing(image)
    return f"{number} ({str(image)[:_MAX_PATH]!r})" if has_path else str(number)


def _merged(label: str, texts: Spellings) -> str:
    counts = ", ".join(f"{rows:,} as {text!a}" for (_, text), rows in texts.most_common())
    return f"{label!r} ({texts.total():,} rows, {counts})"
