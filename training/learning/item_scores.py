"""The score of each test item, which is published with a version so that a later version can be compared with it."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from pydantic import ValidationError

from model_store import ItemScores, Pattern, Problem
from model_store.atomic_file import write_atomically
from model_store.messages import describe_os_error, describe_validation_error, quoted
from training.data.examples import Example, content_of
from training.data.splits import TaskData
from training.errors import RunError
from training.learning.decisions import answer_scores
from training.learning.encoded_pairs import EncodedPairs
from training.learning.encoded_split import EncodedSplit
from training.learning.run_folder import TEST_SCORES
from training.learning.runs import TrainedTask

_DIGITS = 6


def item_scores(trained: TrainedTask, data: TaskData, encoded: EncodedSplit) -> ItemScores:
    """The score of each answer to the test items, each item with the modalities of each pattern that it allows.

    Args:
        encoded: the test split of `data`.
    """
    rows = {_digest(item): row for row, item in enumerate(data.test.items)}
    order = [rows[digest] for digest in sorted(rows)]
    majority = _majority_label(data)
    return ItemScores(
        metric="f1" if trained.config.problem is Problem.MULTI_LABEL else "accuracy",
        items=hashlib.sha256("".join(sorted(rows)).encode()).hexdigest(),
        majority_label=majority,
        majority=tuple(_majority_score(data.test.items[row], majority) for row in order),
        patterns={pattern: _of_pattern(trained, encoded, pattern, order) for pattern in Pattern},
    )


def retrieval_item_scores(trained: TrainedTask, data: TaskData, encoded: EncodedPairs) -> ItemScores:
    """Whether each query of the test split finds its target first, with the modalities of each pattern that it allows.

    Args:
        encoded: the test split of `data`.
    """
    rows = {_digest(item): row for row, item in enumerate(data.test.items)}
    order = [rows[digest] for digest in sorted(rows)]
    patterns: dict[Pattern, tuple[float | None, ...]] = {}
    for pattern in Pattern:
        hidden, chosen = encoded.under(pattern)
        is_first = encoded.ranks(trained.model.head, hidden, trained.config.train.temperature).rank == 0
        patterns[pattern] = tuple(float(is_first[row]) if chosen[row] else None for row in order)
    return ItemScores(
        metric="recall_at_1",
        items=hashlib.sha256("".join(sorted(rows)).encode()).hexdigest(),
        majority_label=None,
        majority=(0.0,) * len(order),
        patterns=patterns,
    )


def write_item_scores(folder: Path, scores: ItemScores) -> None:
    """Write test_scores.json into a run."""
    write_atomically(folder / TEST_SCORES, scores.model_dump_json().encode())


def read_item_scores(folder: Path) -> ItemScores | None:
    """The scores in a run; None for a run of an earlier version, which has none. Raises RunError."""
    path = folder / TEST_SCORES
    cure = f"`mora-train evaluate {quoted(folder)}` writes it again"
    try:
        return ItemScores.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{describe_os_error(error)}; {cure}") from error
    except ValidationError as error:
        raise RunError(f"{path} is damaged ({describe_validation_error(error)[0]}); {cure}") from error


def _of_pattern(
    trained: TrainedTask, encoded: EncodedSplit, pattern: Pattern, order: list[int]
) -> tuple[float | None, ...]:
    answers = encoded.of_pattern(trained.model.head, pattern)
    scores = answer_scores(answers.logits, answers.targets, trained.calibration[pattern])
    score_of = dict(zip(answers.item.tolist(), scores.tolist(), strict=True))
    return tuple(round(score_of[row], _DIGITS) if row in score_of else None for row in order)


def _majority_label(data: TaskData) -> str:
    """The most frequent label of the training split; of equally frequent ones, the first in the task's order."""
    counts = Counter(label for item in data.train.items for label in item.labels)
    return max(data.labels, key=lambda label: counts[label])


def _majority_score(item: Example, label: str) -> float:
    """The score of the label as the only answer, by the same metric."""
    return round(2 / (1 + len(item.labels)), _DIGITS) if label in item.labels else 0.0


def _digest(item: Example) -> str:
    """SHA-256 over picture, text and labels, in whatever order they are listed, and over those of the target."""
    sides = (content_of(side.picture or b"", side.text, sorted(side.labels)) for side in item.sides)
    return hashlib.sha256(b"".join(sides)).hexdigest()
