"""Cross-fitting: a model trained on few items is calibrated on answers to its own training items, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from model_store import Pattern
from training.data.copies import groups_of_copies
from training.data.folds import draw_folds
from training.data.missing import Table
from training.data.splits import Split, TaskData
from training.errors import DivergedError
from training.learning.batches import Collator
from training.learning.calibration import Answers, joined
from training.learning.candidate import Candidate, probed
from training.learning.encoded_split import encode
from training.learning.runs import build
from training.learning.trainer import kept_epoch, train_epochs
from training.learning.training_setup import set_seed

if TYPE_CHECKING:
    from transformers import TrainingArguments

FOLDS = 3
MOST_ITEMS = 500  # of more, the validation split is large enough


def cross_fitted(
    trained: Candidate,
    data: TaskData,
    tables: Mapping[str, Table],
    folder: Path,
    collator: Collator,
    arguments: TrainingArguments,
    history: list[dict[str, float]],
    announce: Callable[[str], None],
) -> Candidate:
    """The candidate with held-out answers to validation and, of at most 500 training items, to each of these.

    A training item is answered by a model that was trained without the item's fold: from the probe of the other folds,
    by the candidate's schedule up to its kept epoch.

    Args:
        trained: the candidate, which was trained from a probe.
        tables: the missing tables of `train` and `validation`.
        folder: the run, which holds the towers of an imported task.
        history: the Trainer's log.
    """
    items, epochs = data.train.items, kept_epoch(history)
    if len(items) > MOST_ITEMS or len(groups_of_copies(items)) < FOLDS:
        return trained
    fold_of = draw_folds(items, FOLDS, trained.config.data.seed, data.train.source)
    folds = np.array([fold_of[item.row] for item in items])
    method = trained.config.method
    announce(f"few items to calibrate on: {method} is trained {FOLDS} times more, each without a third of them")
    parts = [trained.held_out]
    try:
        for fold in track(range(FOLDS), "cross-fitting"):
            part = replace(data, train=_items(data.train, folds != fold), test=_items(data.train, folds == fold))
            part_tables = {
                "train": tables["train"][folds != fold],
                "validation": tables["validation"],
                "test": tables["train"][folds == fold],
            }
            parts.append(_held_out(trained, part, part_tables, folder, collator, arguments, epochs))
    except DivergedError as error:
        announce(f"{method} is calibrated on the validation split alone: without a part, {error}")
        return trained
    return replace(trained, held_out={pattern: joined([part[pattern] for part in parts]) for pattern in Pattern})


def _items(split: Split, chosen: NDArray[np.bool_]) -> Split:
    return replace(split, items=[item for item, is_chosen in zip(split.items, chosen, strict=True) if is_chosen])


def _held_out(
    trained: Candidate,
    part: TaskData,
    tables: dict[str, Table],
    folder: Path,
    collator: Collator,
    arguments: TrainingArguments,
    epochs: int,
) -> dict[Pattern, Answers]:
    """The answers to the test split of a model that is trained on the train split."""
    config, like = trained.config, trained.model
    set_seed(config.train.seed)  # whatever came before, such as a resumed training
    model, _ = build(config, len(part.labels), folder)
    model.split_at(model.backbone, like.image_split, like.text_split)
    model.to(arguments.device)
    probe = probed(config, part, tables, folder, collator, (like.image_split, like.text_split))
    model.head.load_state_dict(probe.model.head.state_dict())
    train_epochs(model, collator, config, part, tables["train"], arguments, epochs)
    encoded = encode(model, part.test, collator)
    return encoded.by_pattern(model.cpu().head, tables["test"])
