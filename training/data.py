"""Items of a split: read by columns from what people have, checked row by row before any training."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.progress import track

from training.config import TaskConfig
from training.errors import DataError
from training.items import Item, item_from_row
from training.tables import read_rows

_MAX_LISTED = 10


@dataclass(frozen=True)
class Split:
    """The items of one split and where they came from."""

    name: str
    source: str
    items: list[Item]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over texts, labels and images (a file by its name and size)."""
        digest = hashlib.sha256()
        for item in self.items:
            image = item.image
            key = f"{image.name} {image.stat().st_size}".encode() if isinstance(image, Path) else image or b""
            for part in (key, (item.text or "").encode(), "\0".join(item.labels).encode()):
                digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()


@dataclass(frozen=True)
class TaskData:
    """The three splits of a task and its labels in output order."""

    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...] = ()  # what a person should know, but need not mend

    def splits(self) -> dict[str, Split]:
        """The splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def fingerprint(self) -> str:
        """One fingerprint over all three splits."""
        return hashlib.sha256("".join(split.fingerprint for split in self.splits().values()).encode()).hexdigest()


def load_data(config: TaskConfig) -> TaskData:
    """Read and check every split. Raises DataError, which names the file, the rows and the cure."""
    data = config.data
    train = load_split("train", data.train, config)
    sources = {"validation": data.validation, "test": data.test}
    given = {name: load_split(name, source, config) for name, source in sources.items() if source is not None}
    all_shares = {"validation": data.validation_share, "test": data.test_share}
    shares = {name: share for name, share in all_shares.items() if name not in given}
    notes: tuple[str, ...] = ()
    if shares:
        train, held_out = hold_out(train, shares, config.train.seed)
        given |= held_out
        sizes = ", ".join(f"{len(split.items)} for {name}" for name, split in held_out.items())
        notes += (f"held out of {data.train}: {sizes}",)
    labels = config.labels or tuple(sorted({label for item in train.items for label in item.labels}))
    _check_labels(labels, [train, *given.values()])
    counts = Counter(label for item in train.items for label in item.labels)
    rare = [label for label in labels if counts[label] < 2]
    if rare:
        notes += (f"seen less than twice in train, so hardly learnt: {', '.join(rare[:_MAX_LISTED])}",)
    return TaskData(labels, train, given["validation"], given["test"], notes)


def load_split(name: str, source: str, config: TaskConfig) -> Split:
    """Read and check one split."""
    rows, folder = read_rows(source, config.data)
    items, faults = [], []
    for number, row in enumerate(track(rows, f"checking {name}"), start=1):
        try:
            items.append(item_from_row(number, row, folder, config))
        except DataError as fault:
            faults.append(f"  row {number}: {fault}")
    if faults:
        more = f"\n  and {len(faults) - _MAX_LISTED} more" if len(faults) > _MAX_LISTED else ""
        listed = "\n".join(faults[:_MAX_LISTED])
        raise DataError(f"{source} ({name}) has {len(faults)} rows to mend:\n{listed}{more}")
    if not items:
        raise DataError(f"{source} ({name}) has no rows")
    return Split(name, source, items)


def hold_out(train: Split, shares: dict[str, float], seed: int) -> tuple[Split, dict[str, Split]]:
    """Take a share of every label's items for each further split; at least one item of a label stays in train.

    An item with several labels counts under its rarest one.
    """
    counts = Counter(label for item in train.items for label in item.labels)
    groups: dict[str, list[Item]] = {}
    for item in train.items:
        groups.setdefault(min(item.labels, key=lambda label: (counts[label], label), default=""), []).append(item)
    rng = np.random.default_rng(seed)
    taken: dict[str, list[Item]] = {name: [] for name in shares}
    for _, group in sorted(groups.items()):
        order = [group[i] for i in rng.permutation(len(group))]
        for name, share in shares.items():
            count = min(round(share * len(group)), len(order) - 1)
            taken[name] += order[:count]
            order = order[count:]
    gone = {item.row for items in taken.values() for item in items}
    for name, items in taken.items():
        if not items:
            message = f"{train.source} has too few rows a label to hold out a {name} split; give data.{name}"
            raise DataError(message)
    rest = Split(train.name, train.source, [item for item in train.items if item.row not in gone])
    ordered = {name: sorted(items, key=lambda item: item.row) for name, items in taken.items()}
    return rest, {name: Split(name, train.source, items) for name, items in ordered.items()}


def _check_labels(labels: tuple[str, ...], splits: list[Split]) -> None:
    known = set(labels)
    for split in splits:
        unknown = [(item.row, label) for item in split.items for label in item.labels if label not in known]
        if unknown:
            row, label = unknown[0]
            raise DataError(
                f"{split.source} ({split.name}) row {row}: label {label!r} is not among the {len(labels)} labels of "
                f"the task ({len(unknown)} such in all); mend the row, add training items, or list it under `labels`"
            )
    if len(labels) < 2:
        raise DataError(f"the task has {len(labels)} label; at least two are needed to tell apart")
