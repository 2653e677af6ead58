"""Copies: items that share a picture, or that have no picture and the same text. A split may not divide them.

Of a retrieval task, copies are queries of the same target.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.examples import Example, digest_of

_SHOWN_GROUPS, _SHOWN_ROWS = 2, 2

Items = Mapping[str, Sequence[Example]]  # by split
PlacedItems = list[tuple[str, Example]]  # each with its split


class Repeats(NamedTuple):
    """The items of one split, or of two, that repeat each other."""

    kind: str
    splits: tuple[str, ...]
    groups: list[PlacedItems]

    @property
    def rows(self) -> int:
        """The number of items in all groups."""
        return sum(map(len, self.groups))

    def shown(self) -> str:
        """The rows of the first few groups."""
        more = f"; and {len(self.groups) - _SHOWN_GROUPS:,} more" if len(self.groups) > _SHOWN_GROUPS else ""
        return "; ".join(named_rows(group, len(self.splits) > 1) for group in self.groups[:_SHOWN_GROUPS]) + more


def copy_key(item: Example) -> Hashable:
    """The same for copies: the content of the picture, or without one the text. The label does not count.

    Of a retrieval task, it is the picture or text of the target: a model that was trained on a target finds it more
    easily, whatever the query.
    """
    if item.target is not None:
        return _item_key(item.target)
    return (item.picture, None) if item.picture is not None else (item.image, _normal_text(item))


def shared_by_copies(items: Iterable[Example]) -> str:
    """What the copies among these items have in common, in words."""
    if any(item.target is not None for item in items):
        return "the same target"
    return "the same picture, or no picture and the same text"


def groups_of_copies(items: Iterable[Example]) -> list[list[Example]]:
    """Every item in the group of its copies; groups and items in the order of the items."""
    groups: dict[Hashable, list[Example]] = {}
    for item in items:
        groups.setdefault(copy_key(item), []).append(item)
    return [*groups.values()]


def distinct_targets(pairs: Iterable[Example]) -> list[Example]:
    """The targets of a retrieval task's queries; equal ones are one."""
    targets = (item.target for item in pairs if item.target is not None)
    return [*{digest_of(target): target for target in targets}.values()]


def copy_numbers(items: Iterable[Example]) -> NDArray[np.intp]:
    """(items,): the number of each item's group of copies."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(copy_key(item), len(numbers)) for item in items], dtype=np.intp)


def find_repeats(splits: Items) -> list[Repeats]:
    """The items that repeat, within each split and in each pair of splits, and the pictures of further repeats."""
    places = [*((name,) for name in splits), *combinations(splits, 2)]
    items = [Repeats("same item", place, _repeated(splits, place, _item_key)) for place in places]
    pictures = [Repeats("same picture", place, _repeated(splits, place, lambda item: item.picture)) for place in places]
    beside = [picture for picture, item in zip(pictures, items, strict=True) if picture.groups != item.groups]
    return [repeats for repeats in [*beside, *items] if repeats.groups]


def leaks(splits: Items) -> list[str]:
    """A warning for each pair of splits that share items, with the number of these and the rows of a few."""
    warnings = []
    for earlier, later in combinations(splits, 2):
        if groups := _repeated(splits, (earlier, later), copy_key):
            copies = sum(name == later for group in groups for name, _ in group)
            shown = Repeats("copies", (earlier, later), groups).shown()
            warnings.append(
                f"{copies:,} of the {len(splits[later]):,} rows of {later} repeat rows of {earlier}: they have "
                f"{shared_by_copies(splits[later])} ({shown}). The scores on {later} are too high"
                f"{_for_new_items(splits[later])}; remove these rows from one of the two"
            )
    return warnings


def named_rows(group: PlacedItems, with_split: bool = False) -> str:
    """The first few rows of a group in words, with the files of their pictures, and the number of the others."""
    first_of_split = [*dict(reversed(group)).items()][::-1]
    shown = first_of_split if with_split else group[:_SHOWN_ROWS]
    rows = [_named(item) + (f" of {split}" if with_split else "") for split, item in shown]
    if len(group) > len(shown):
        rows.append(f"{len(group) - len(shown):,} more")
    return f"{', '.join(rows[:-1])} and {rows[-1]}"


def _named(item: Example) -> str:
    """A row, with its picture's file: rows of a folder have no number that its owner knows."""
    return f"row {item.row}" + (f" ({'/'.join(item.image.parts[-2:])!r})" if isinstance(item.image, Path) else "")


def _repeated(splits: Items, names: tuple[str, ...], key: Callable[[Example], Hashable]) -> list[PlacedItems]:
    """The groups of equal keys with several items of one split, or with items of both of two splits."""
    groups: dict[Hashable, PlacedItems] = {}
    for name in names:
        for item in splits[name]:
            if (value := key(item)) is not None:
                groups.setdefault(value, []).append((name, item))
    return [group for group in groups.values() if len(group) > 1 and len({name for name, _ in group}) == len(names)]


def _for_new_items(items: Iterable[Example]) -> str:
    return " for targets that are new" if any(item.target is not None for item in items) else ""


def _item_key(item: Example) -> Hashable:
    return tuple((side.picture or side.image, _normal_text(side)) for side in item.sides)


def _normal_text(item: Example) -> str | None:
    """The text in Unicode NFC, with single spaces."""
    return None if item.text is None else " ".join(unicodedata.normalize("NFC", item.text).split())
