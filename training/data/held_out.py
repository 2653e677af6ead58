"""The random split of a source that comes without splits: by groups of copies, stratified by label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from training.data.copies import Items, groups_of_copies, named_rows
from training.data.examples import Example

Group = Sequence[Example]  # of copies


def draw_held_out(items: Sequence[Example], shares: Mapping[str, float], seed: int) -> dict[int, str]:
    """The split of each row that is held out; the other rows stay in train.

    Of each label, a split receives its share of the rows, in whole groups of copies. A group counts as of its rarest
    label. What a label lacks because its groups do not fit, later labels make up for. A group that is more than half
    of its label's rows stays in train, as does the last group of every label.
    """
    counts = _labels(items)
    by_label: dict[str, list[Group]] = {}
    for group in groups_of_copies(items):
        rarest = min(_labels(group), key=lambda label: (counts[label], label), default="")
        by_label.setdefault(rarest, []).append(group)
    rng = np.random.default_rng(seed)
    draw = _Draw(counts, shares)
    for _, groups in sorted(by_label.items()):
        order = [groups[number] for number in rng.permutation(len(groups))]
        rows = sum(map(len, order))
        draw.hold_out([group for group in order if len(group) == 1 or len(group) <= rows / 2])
    draw.fill_empty([group for _, groups in sorted(by_label.items()) for group in groups])
    return draw.split_of


def held_out_notes(source: str, splits: Items, shares: Mapping[str, float]) -> tuple[str, ...]:
    """The sizes of drawn splits, the number of copies that stayed together, and a group that is larger than a share."""
    sizes = ", ".join(f"{len(splits[name]):,} for {name}" for name in shares)
    notes = [f"held out of {source}: {sizes}"]
    groups = [(name, group) for name in splits for group in groups_of_copies(splits[name]) if len(group) > 1]
    if groups:
        notes.append(
            f"{sum(len(group) for _, group in groups):,} rows of {source} have the same picture as another row, or no "
            f"picture and the same text; each of these {len(groups):,} groups is whole in one split"
        )
    name, largest = max(groups, key=lambda group: len(group[1]), default=("train", []))
    if len(largest) > min(shares.values()) * sum(map(len, splits.values())):
        has_picture = largest[0].image is not None
        shared = "the same picture" if has_picture else "no picture and the same text"
        cure = "; if it stands for a missing picture, leave these cells empty" if has_picture else ""
        rows = named_rows([(name, item) for item in largest])
        notes.append(f"{len(largest):,} rows have {shared} ({rows}), so all are in {name}{cure}")
    return tuple(notes)


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
