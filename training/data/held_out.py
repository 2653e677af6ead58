"""The random split of a source that comes without splits: by groups of copies, stratified by label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from training.data.copies import Items, groups_of_copies, named_rows
from training.data.examples import Example
from training.errors import first_few

Group = Sequence[Example]  # of copies
_MAX_LISTED = 10  # labels in a note


def draw_held_out(items: Sequence[Example], shares: Mapping[str, float], seed: int) -> dict[int, str]:
    """The split of each row that is held out; the other rows stay in train.

    Of each label, a split receives its share of the rows, in whole groups of copies. A group counts as of its rarest
    label. What a label lacks because its groups do not fit, later labels make up for. A group that is more than half
    of its label's rows stays in train, as does the last group of every label. Labels with too few rows for a whole row
    in each split are pooled: a split receives its share of their rows, of whichever of these labels.
    """
    by_label, pooled = groups_by_label(items), list[Group]()
    small = _small_labels(items, shares)
    rng = np.random.default_rng(seed)
    draw = _Draw(_labels(items), shares)
    for label, groups in by_label.items():
        order = [groups[number] for number in rng.permutation(len(groups))]
        rows = sum(map(len, order))
        movable = [group for group in order if len(group) == 1 or len(group) <= rows / 2]
        if label in small:
            pooled += movable
        else:
            draw.hold_out(movable)
    draw.hold_out([pooled[number] for number in rng.permutation(len(pooled))])
    draw.fill_empty([group for groups in by_label.values() for group in groups])
    return draw.split_of


def groups_by_label(items: Sequence[Example]) -> dict[str, list[Group]]:
    """The groups of copies by label, sorted by label. A group counts as of its rarest label."""
    counts, by_label = _labels(items), dict[str, list[Group]]()
    for group in groups_of_copies(items):
        rarest = min(_labels(group), key=lambda label: (counts[label], label), default="")
        by_label.setdefault(rarest, []).append(group)
    return dict(sorted(by_label.items()))


def _small_labels(items: Sequence[Example], shares: Mapping[str, float]) -> list[str]:
    """The labels that could give some of their rows, but not a whole row to each split."""
    rows, by_label = _labels(items), groups_by_label(items)
    candidates = [label for label, groups in by_label.items() if label and len(groups) > 1]
    return [label for label in candidates if any(round(share * rows[label]) == 0 for share in shares.values())]


def held_out_notes(source: str, splits: Items, shares: Mapping[str, float]) -> tuple[str, ...]:
    """The sizes of drawn splits, the number of copies that stayed together, and a group that is larger than a share."""
    sizes = ", ".join(f"{len(splits[name]):,} for {name}" for name in shares)
    notes = [f"held out of {source}: {sizes}"]
    groups = [(name, group) for name in splits for group in groups_of_copies(splits[name]) if len(group) > 1]
    if groups:
        notes.append(
            f"{sum(len(group) for _, group in groups):,} rows of {source} have {_as_another_row(groups[0][1])}; "
            f"each of these {len(groups):,} groups is whole in one split"
        )
    if pooled := _small_labels([item for items in splits.values() for item in items], shares):
        notes.append(
            f"labels with too few rows for their share in each split: {first_few(pooled, _MAX_LISTED)}; their rows "
            f"were pooled and divided at random, so that {' or '.join(shares)} may lack some of these labels"
        )
    name, largest = max(groups, key=lambda group: len(group[1]), default=("train", []))
    if len(largest) > min(shares.values()) * sum(map(len, splits.values())):
        has_picture = largest[0].image is not None and largest[0].target is None
        shared = "the same picture" if has_picture else "no picture and the same text"
        if largest[0].target is not None:
            shared = "the same target"
        cure = "; if it stands for a missing picture, leave these cells empty" if has_picture else ""
        rows = named_rows([(name, item) for item in largest])
        notes.append(f"{len(largest):,} rows have {shared} ({rows}), so all are in {name}{cure}")
    return tuple(notes)


def _as_another_row(group: Group) -> str:
    if group[0].target is not None:
        return "the same target as another row"
    return "the same picture as another row, or no picture and the same text"


class _Draw:
    """The rows held out so far, and what the splits still lack."""

    def __init__(self, counts: Counter[str], shares: Mapping[str, float]) -> None:
        self.split_of: dict[int, str] = {}  # by row
        self._in_train = counts.copy()  # items by label
        self._shares = shares
        self._owed = dict.fromkeys(shares, 0)  # rows that earlier labels lacked; negative if they gave too many

    def hold_out(self, groups: list[Group]) -> None:
        """Move the shares of one label's groups, which are in random order."""
        rows = sum(map(len, groups))
        for name, share in self._shares.items():
            left = [group for group in groups if group[0].row not in self.split_of]
            most = sum(map(len, left)) - min(map(len, left), default=0)  # one group stays in train
            self._owed[name] += min(round(share * rows), most)
            for group in left:
                if len(group) <= self._owed[name]:
                    self._move(group, name)
            for group in sorted(left, key=len):  # one more that does not fit, if the split is nearer to its share then
                if len(group) < 2 * self._owed[name]:
                    self._move(group, name)

    def fill_empty(self, groups: list[Group]) -> None:
        """Give a split that received nothing the smallest group that can leave train."""
        for name in [name for name in self._shares if name not in self.split_of.values()]:
            any(self._move(group, name) for group in sorted(groups, key=len))  # until one is moved

    def _move(self, group: Group, name: str) -> bool:
        """Move a group out of train, unless it has been moved or has the last items of a label."""
        labels = _labels(group)
        if group[0].row in self.split_of or any(self._in_train[label] <= count for label, count in labels.items()):
            return False
        self._in_train -= labels
        self._owed[name] -= len(group)
        self.split_of |= {item.row: name for item in group}
        return True


def _labels(items: Sequence[Example]) -> Counter[str]:
    return Counter(label for item in items for label in item.labels)
