"""Notes for the user on what looks like a mistake in a task's labels, texts and columns, and on rows that repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from model_store import Problem
from training.config import DataConfig, TaskConfig
from training.data.copies import find_repeats
from training.data.empty_words import reads_as_empty
from training.data.examples import Example
from training.data.label_notes import joined_notes, similar_notes, unseen_notes
from training.errors import first_few

_MAX_LISTED = 10


def content_notes(labels: Sequence[str], splits: Mapping[str, Sequence[Example]], config: TaskConfig) -> Iterator[str]:
    """All notes on the items of `train`, `validation` and `test`."""
    is_multi, data = config.problem is not Problem.SINGLE_LABEL, config.data
    counts = {name: Counter(label for item in items for label in item.labels) for name, items in splits.items()}
    total = sum(counts.values(), Counter[str]())
    yield from similar_notes(total)
    yield from joined_notes(total, data.label, is_multi)
    yield from unseen_notes(labels, {name: counts[name] for name in ("validation", "test")})
    for name, items in splits.items():
        yield from empty_column_notes(name, items, data)
        yield from empty_word_notes(name, items, data.text)
        if targets := [item.target for item in items if item.target is not None]:
            of_targets = data.model_copy(update={"image": data.target_image, "text": data.target_text})
            if data.format is None:  # a format fixes which columns there are
                yield from empty_column_notes(name, targets, of_targets, "target_")
            yield from empty_word_notes(name, targets, data.target_text)
        yield from repeat_notes(name, items)


def empty_word_notes(split: str, items: Sequence[Example], column: str | None) -> Iterator[str]:
    """Which texts of a split read like an empty cell, and how often."""
    words = Counter(item.text.strip() for item in items if item.text is not None and reads_as_empty(item.text))
    if words:
        shown = first_few([f"{word!r} ({count:,})" for word, count in words.most_common()], _MAX_LISTED)
        rows = first_few([str(item.row) for item in items if item.text and item.text.strip() in words])
        cure = f"leave these cells of column {column} empty if they mean no text"
        yield f"texts of {split} that read like an empty cell: {shown}; {cure} (rows {rows})"


def empty_column_notes(split: str, items: Sequence[Example], data: DataConfig, side: str = "") -> Iterator[str]:
    """Which configured column of a split is empty in every row.

    Args:
        side: beginning of the fields' names, of targets `target_`.
    """
    for field, column, values in (
        ("image", data.image, [item.image for item in items]),
        ("text", data.text, [item.text for item in items]),
    ):
        if column is not None and all(value is None for value in values):
            cure = f"set data.{side}{field} to another column, or to null"
            yield f"column {column} is empty in all {len(items):,} rows of {split}; {cure}"


def repeat_notes(split: str, items: Sequence[Example]) -> Iterator[str]:
    """Rows of a split with the same picture and text, and those of them whose labels differ."""
    for repeats in find_repeats({split: items}):
        if repeats.kind != "same item":
            continue
        yield f"{repeats.rows:,} rows of {split} have the picture and text of another row ({repeats.shown()})"
        differing = [group for group in repeats.groups if len({frozenset(item.labels) for _, item in group}) > 1]
        if differing:
            shown = repeats._replace(groups=differing).shown()
            yield f"rows of {split} with the same picture and text have different labels ({shown}); correct them"
