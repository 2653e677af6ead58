"""A digest of every row of a task's data, which finds the first row that has changed since a run began."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from training.data.examples import Example, digest_of
from training.data.splits import Split, TaskData

_DIGITS = 8
RowDigests = Mapping[str, Mapping[str, str]]  # by split that came from a source of its own, and by row


def row_digests(data: TaskData) -> dict[str, dict[str, str]]:
    """The digests by row. Splits that were drawn from one source are together, under the name of the first."""
    return {name: {str(item.row): _digest(item) for item in items} for name, (_, items) in _by_source(data).items()}


def first_change(before: RowDigests, data: TaskData) -> str | None:
    """The first row that is not as before, in words; None if only the order or the way of splitting has changed."""
    for name, (split, items) in _by_source(data).items():
        now, earlier = {str(item.row): item for item in items}, before.get(name, {})
        for row in sorted({*earlier, *now}, key=int):
            if row in now and row in earlier and earlier[row] == _digest(now[row]):
                continue
            place = f"row {row}{_picture(now[row]) if row in now else ''} of {split.source}"
            change = "is gone" if row not in now else "is new" if row not in earlier else "differs"
            counts = f" (there are {len(now):,} rows, and were {len(earlier):,})" if len(now) != len(earlier) else ""
            return f"{place} {change}{counts}"
    return None


def _picture(item: Example) -> str:
    return f" ({item.image})" if isinstance(item.image, Path) else ""


def _digest(item: Example) -> str:
    return digest_of(item).hex()[:_DIGITS]


def _by_source(data: TaskData) -> dict[str, tuple[Split, list[Example]]]:
    """The items of each source, under the name of the first split that has it.

    The formats of published data sets number the rows of each split anew, although they have one source.
    """
    sources: dict[str, tuple[Split, list[Example]]] = {}
    for name, split in data.splits().items():
        rows = {item.row for item in split.items}
        for first, items in sources.values():
            if first.source == split.source and rows.isdisjoint(item.row for item in items):
                items += split.items
                break
        else:
            sources[name] = (split, [*split.items])
    return sources
