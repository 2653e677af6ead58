"""Splits of a task: read from its data, and checked row by row before training."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from rich.progress import track

from model_store import Problem
from model_store.items.cells import existing
from model_store.items.folders import Skipped
from model_store.items.tables import SUFFIXES
from training.config import TaskConfig
from training.data.arrow_files import read_arrow
from training.data.benchmark_datasets import read_tree
from training.data.content_notes import content_notes
from training.data.copies import groups_of_copies, leaks, shared_by_copies
from training.data.examples import Example, content_of, item_from_row
from training.data.held_out import draw_held_out, held_out_notes
from training.data.image_folders import class_notes, split_folders, split_notes
from training.data.label_notes import Spellings, likeness, row_name, spelling_notes, spellings_of, unlabelled_note
from training.data.label_vectors import refuse_label_vectors
from training.data.tables import Source, listed, read_rows
from training.errors import DataError, EmptyItemError, PictureFaultError, first_few

_MAX_LISTED = 10  # labels in a note


@dataclass(frozen=True)
class Split:
    """The items of one split and their source."""

    name: str
    source: str
    items: list[Example]
    spellings: Spellings = field(default_factory=Spellings)  # of the labels in the source
    unlabelled: tuple[str, ...] = ()  # rows without a label: their numbers and the paths of their pictures
    notes: tuple[str, ...] = ()  # on files of its source that are left out

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over texts, labels and the content of images."""
        return self._digest(lambda item: item.picture or b"")

    @property
    def sides(self) -> list[Example]:
        """The items and, of a retrieval task, their targets."""
        return [side for item in self.items for side in item.sides]

    @property
    def old_fingerprint(self) -> str:
        """The fingerprint that earlier versions gave a run: a file of an image counted by its name and size."""
        return self._digest(_old_key)

    def _digest(self, key_of: Callable[[Example], bytes]) -> str:
        digest = hashlib.sha256()
        for item in self.items:
            for side in item.sides:
                digest.update(content_of(key_of(side), side.text, side.labels))
        return digest.hexdigest()


def _old_key(item: Example) -> bytes:
    image = item.image
    return f"{image.name} {image.stat().st_size}".encode() if isinstance(image, Path) else image or b""


@dataclass(frozen=True)
class TaskData:
    """The three splits of a task and its labels in output order; a retrieval task has none."""

    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...] = ()  # for the user; they need no action

    def splits(self) -> dict[str, Split]:
        """The splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def fingerprint(self) -> str:
        """One fingerprint over all three splits."""
        return _joined(split.fingerprint for split in self.splits().values())

    def has_fingerprint(self, fingerprint: object) -> bool:
        """Whether a run with this fingerprint was trained on this data, also if an earlier version made the run."""
        old = (split.old_fingerprint for split in self.splits().values())
        return fingerprint == self.fingerprint or fingerprint == _joined(old)


def _joined(fingerprints: Iterable[str]) -> str:
    return hashlib.sha256("".join(fingerprints).encode()).hexdigest()


def load_data(config: TaskConfig) -> TaskData:
    """Read and check every split. Raises DataError, which names the file, the rows and the cure."""
    splits, notes = _given_splits(config)
    notes += _label_notes([*splits.values()], config)
    all_shares = {"validation": config.data.validation_share, "test": config.data.test_share}
    shares = {name: share for name, share in all_shares.items() if name not in splits}
    if shares:
        splits["train"], held_out = hold_out(splits["train"], shares, config.data.seed)
        splits |= held_out
        drawn = {name: splits[name].items for name in ("train", *shares)}
        notes += held_out_notes(splits["train"].source, drawn, shares)
    notes += tuple(leaks({name: splits[name].items for name in ("train", *all_shares)}))
    counts = Counter(label for item in splits["train"].items for label in item.labels)
    labels = config.labels or tuple(sorted(counts))
    if config.problem is not Problem.RETRIEVAL:
        _check_labels(labels, [*splits.values()])
    if rare := [label for label in labels if counts[label] < 2]:
        notes += (f"too rare in train to be learnt (0 or 1 items): {first_few(rare, _MAX_LISTED)}",)
    return TaskData(
        labels,
        **splits,
        notes=(*notes, *content_notes(labels, {name: split.items for name, split in splits.items()}, config)),
    )


def load_split(name: str, source: str, config: TaskConfig) -> Split:
    """Read and check one split of a file, an image folder or a hub data set."""
    if (folders := split_folders(source)) and name not in folders:
        raise DataError(f"{source} holds the splits {', '.join(folders)}, but no {name}; correct data.{name}")
    source = str(folders.get(name, source))
    return _checked(name, source, read_rows(source, config.data, config.problem), config)


def _given_splits(config: TaskConfig) -> tuple[dict[str, Split], tuple[str, ...]]:
    """The splits that the data comes with, and notes on them."""
    data = config.data
    if data.root is not None:
        root = existing(Path(data.root))
        if not root.is_dir():
            raise DataError(f"{root} is not a folder; set data.root to the folder of the {data.format} files")
        layout = read_arrow(root, config) if data.format == "arrow" else read_tree(root, config)
        rows_of = {name: Source(rows, layout.folder, Skipped()) for name, rows in layout.splits.items()}
        return {name: _checked(name, data.root, rows, config) for name, rows in rows_of.items()}, layout.notes
    configured = {"train": data.train, "validation": data.validation, "test": data.test}
    given = {name: source for name, source in configured.items() if source is not None}
    folders = split_folders(given["train"])
    sources = given | {name: str(folder) for name, folder in folders.items() if name not in given}
    splits = {name: load_split(name, sources[name], config) for name in configured if name in sources}
    notes = split_notes(folders, given) if folders else class_notes(given["train"])
    return splits, (*notes, *(note for split in splits.values() for note in split.notes))


def _checked(name: str, source: str, read: Source, config: TaskConfig) -> Split:
    has_labels, is_multi = config.problem is not Problem.RETRIEVAL, config.problem is not Problem.SINGLE_LABEL
    if config.problem is Problem.MULTI_LABEL:
        refuse_label_vectors(f"{source} ({name})", (row["label"] for row in read.rows), config.data.label)
    items: list[Example] = []
    unlabelled: list[str] = []
    faults: dict[Hashable, tuple[int, DataError]] = {}
    for number, row in enumerate(track(read.rows, f"checking {name}"), start=1):
        try:
            item = item_from_row(number, row, read.folder, config)
            if item is None or (has_labels and not item.labels):
                unlabelled.append(row_name(number, row["image"]))
            if item is not None:
                items.append(item)
        except DataError as fault:
            if read.is_pictures and isinstance(fault, PictureFaultError):
                read.skipped.add(row["image"], f"pictures, each of which {fault.fault}")
                continue
            group = row.get("group")  # a broken image with several texts is one fault
            faults.setdefault(number if group is None else (group, str(fault)), (number, fault))
    if len(faults) > 1 and not items and all(isinstance(fault, EmptyItemError) for _, fault in faults.values()):
        raise DataError(f"{source} ({name}): {_empty_columns(config)}")
    if faults:
        count = f"{len(faults)} rows" if len(faults) > 1 else "1 row"
        summary = f"{source} ({name}) has {count} to mend (row 1 is the first item, below any header)"
        left_out = [] if is_multi or not unlabelled else [f"  {unlabelled_note(unlabelled, are_kept=False)}"]
        raise DataError("\n".join([f"{summary}:", listed(_by_fault(faults.values())), *left_out]))
    notes = tuple(read.skipped.lines(source))
    if unlabelled and not items:
        cure = "set data.label to the column of the labels, or name another file"
        raise DataError(f"{source} ({name}): none of the {len(read.rows):,} rows has a label; {cure}")
    if not items:
        skipped = [path for paths in read.skipped.paths.values() for path in paths]
        tables = [path for path in skipped if Path(path).suffix.lower() in SUFFIXES]
        cure = (
            f"name a file in it, such as {Path(source) / tables[0]}"
            if tables
            else "give it items, or name another file"
        )
        message = f"{source} ({name}) has no rows; {cure}"
        raise DataError("\n".join([message, *notes]))
    spellings = spellings_of(read.rows, is_multi) if has_labels else Spellings()
    return Split(name, source, items, spellings, tuple(unlabelled), notes)


def _by_fault(faults: Iterable[tuple[int, DataError]]) -> list[str]:
    """A line for each fault, with the rows that have it."""
    rows: dict[str, list[str]] = {}
    for number, fault in faults:
        rows.setdefault(str(fault), []).append(str(number))
    return [f"row{'s' if numbers[1:] else ''} {first_few(numbers)}: {fault}" for fault, numbers in rows.items()]


def _empty_columns(config: TaskConfig) -> str:
    """The fault of a split without an image and a text in any row; of a retrieval task, a side without them."""
    if config.problem is Problem.RETRIEVAL:
        return (
            "no row has both a query and a target; correct data.image, data.text, data.target_image or data.target_text"
        )
    fields = {"data.image": config.data.image, "data.text": config.data.text}
    given = {field: column for field, column in fields.items() if column is not None}
    is_one = len(given) == 1
    columns = f"column {' and '.join(given.values())} is" if is_one else f"columns {' and '.join(given.values())} are"
    return f"{columns} empty in every row; name {'another' if is_one else 'others'} as {' and '.join(given)}"


def hold_out(train: Split, shares: Mapping[str, float], seed: int) -> tuple[Split, dict[str, Split]]:
    """Move a share of every label's items to each further split; copies of an item stay with it."""
    split_of = draw_held_out(train.items, shares, seed)
    splits = {
        name: Split(name, train.source, [item for item in train.items if split_of.get(item.row, train.name) == name])
        for name in (train.name, *shares)
    }
    for name, split in splits.items():
        if not split.items:
            groups, rows = len(groups_of_copies(train.items)), len(train.items)
            whole = f"rows with {shared_by_copies(train.items)}, are {groups:,} groups; "
            problem = f"{train.source} has too few rows for each label to hold out a {name} split"
            raise DataError(f"{problem}; {whole if groups < rows else ''}give data.{name}")
    return replace(splits.pop(train.name), notes=train.notes), splits


def _label_notes(splits: Sequence[Split], config: TaskConfig) -> tuple[str, ...]:
    """Notes on the rows without a label and on the spellings of the labels."""
    is_multi = config.problem is not Problem.SINGLE_LABEL
    notes = [
        f"{split.source} ({split.name}): {unlabelled_note(split.unlabelled, is_multi)}"
        for split in splits
        if split.unlabelled
    ]
    return (*notes, *spelling_notes(sum((split.spellings for split in splits), Spellings())))


def _check_labels(labels: tuple[str, ...], splits: list[Split]) -> None:
    known = set(labels)
    for split in splits:
        unknown = [(item.row, label) for item in split.items for label in item.labels if label not in known]
        if unknown:
            row, label = unknown[0]
            similar = [repr(other) for other in labels if likeness(other) == likeness(label)]
            raise DataError(
                f"{split.source} ({split.name}) row {row}: label {label!r} is not among the {len(labels)} labels of "
                f"the task{f', which have {similar[0]}' if similar else ''} ({len(unknown)} unknown labels); "
                "mend the row, add training items, or list it under `labels`"
            )
    if len(labels) < 2:
        train = splits[0]
        only = f"only the label {labels[0]!r}" if labels else "no label"
        message = f"{train.source} has {only}; at least two are needed: add items of another, or mend data.label"
        raise DataError("\n".join([message, *train.notes]))
