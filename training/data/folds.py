"""The folds of a cross-validation: whole groups of copies, stratified by label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from training.config import TaskConfig
from training.data.copies import groups_of_copies
from training.data.examples import Example
from training.data.held_out import groups_by_label
from training.data.splits import Split, TaskData, hold_out
from training.errors import DataError, first_few

_MAX_LISTED = 10  # labels in a note


def fold_data(config: TaskConfig, data: TaskData, folds: int) -> tuple[list[TaskData], tuple[str, ...]]:
    """The data of each fold's run, and notes for the user. In each run, the fold is the test split.

    The folds divide train and the splits that were drawn from it. A validation split that the data comes with is that
    of every run; such a test split is not used.

    Raises:
        DataError: there are more folds than groups of copies, or a run would have too few rows or labels.
    """
    drawn = [data.train, *(split for split in (data.validation, data.test) if _is_drawn(split, config, data))]
    items = sorted((item for split in drawn for item in split.items), key=lambda item: item.row)
    pool = replace(data.train, items=items, notes=())
    fold_of = draw_folds(items, folds, config.data.seed, pool.source)
    runs = [_run(config, data, pool, fold_of, fold, data.validation in drawn) for fold in range(folds)]
    for fold, run in enumerate(runs, start=1):
        labels = {label for item in run.train.items for label in item.labels}
        if data.labels and len(labels) < 2:
            problem = f"without fold {fold} of {folds}, train has {first_few(labels)} as its only label"
            raise DataError(f"{pool.source}: {problem}; give another number of folds, or add items of other labels")
    return runs, _notes(data, pool, drawn, folds)


def draw_folds(items: Sequence[Example], folds: int, seed: int, source: str) -> dict[int, int]:
    """The fold of each row, counted from 0.

    A group of copies counts as of its rarest label. It goes to the fold with the fewest rows of that label, of several
    to the one with the fewest rows: large groups first, those of one size in random order.
    """
    rows, groups = len(items), len(groups_of_copies(items))
    if folds > groups:
        copies = f" in {groups:,} groups of copies" if groups < rows else ""
        raise DataError(f"{source} has {rows:,} rows{copies}, too few for {folds} folds; give at most {groups}")
    rng, fold_of, sizes = np.random.default_rng(seed), dict[int, int](), Counter[int]()
    for of_label in groups_by_label(items).values():
        label_sizes = Counter[int]()
        shuffled = [of_label[number] for number in rng.permutation(len(of_label))]
        for group in sorted(shuffled, key=len, reverse=True):
            fold = min(range(folds), key=lambda fold: (label_sizes[fold], sizes[fold]))
            label_sizes[fold] += len(group)
            sizes[fold] += len(group)
            fold_of |= {item.row: fold for item in group}
    return fold_of


def _run(
    config: TaskConfig, data: TaskData, pool: Split, fold_of: dict[int, int], fold: int, draws_validation: bool
) -> TaskData:
    test = replace(pool, name="test", items=[item for item in pool.items if fold_of[item.row] == fold])
    train = replace(pool, items=[item for item in pool.items if fold_of[item.row] != fold])
    validation = data.validation
    if draws_validation:
        train, held_out = hold_out(train, {"validation": config.data.validation_share}, config.data.seed)
        validation = held_out["validation"]
    return TaskData(data.labels, train, validation, test)


def _notes(data: TaskData, pool: Split, drawn: Sequence[Split], folds: int) -> tuple[str, ...]:
    names = ", ".join(split.name for split in drawn)
    notes = [f"{folds} folds of {len(pool.items):,} rows of {pool.source} ({names})"]
    if data.test not in drawn:
        notes.append(f"the folds leave {data.test.source} (test) untouched")
    by_label = {label: groups for label, groups in groups_by_label(pool.items).items() if label}
    few = [f"{label} ({len(groups)})" for label, groups in by_label.items() if len(groups) < folds]
    if few:
        cause = f"labels with fewer rows, or groups of copies, than the {folds} folds"
        notes.append(f"{cause}: {first_few(few, _MAX_LISTED)}; not every fold tests them")
    return tuple(notes)


def _is_drawn(split: Split, config: TaskConfig, data: TaskData) -> bool:
    """Whether a split is a random share of train."""
    is_given = config.data.root is not None or getattr(config.data, split.name) is not None
    return not is_given and split.source == data.train.source
