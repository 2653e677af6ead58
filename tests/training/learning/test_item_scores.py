"""The scores of test items: independent of the order of items and labels, without anything of the items."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model_store import Calibration, ItemScores, Pattern
from training.config import TaskConfig
from training.data.examples import Example
from training.data.missing import natural_table
from training.data.splits import Split, TaskData
from training.errors import RunError
from training.learning.encoded_split import EncodedSplit
from training.learning.item_scores import item_scores, read_item_scores, write_item_scores
from training.learning.runs import TrainedTask
from training.model.classifier import MissingModalityClassifier

LABELS = ("bag", "hat", "shoe")
FEATURES = 4


def example(row: int, image: bytes | None, text: str | None, *labels: str) -> Example:
    return Example(row, image, text, labels, picture=None if image is None else hashlib.sha256(image).digest())


TEST = [
    example(1, b"one", "a bag", "bag"),
    example(2, b"two", None, "hat"),
    example(3, None, "a shoe", "shoe"),
    example(4, b"four", "see photo", "hat"),
]
TRAIN = [example(row, None, f"text {row}", label) for row, label in enumerate(["hat", "hat", "hat", "bag", "shoe"])]


class Head(torch.nn.Module):
    def __init__(self, order: list[int]) -> None:
        super().__init__()
        weight = torch.randn(len(LABELS), 2 * FEATURES, generator=torch.Generator().manual_seed(1))
        self.weight = weight[order]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features @ self.weight.T


def features_of(content: bytes | str | None) -> torch.Tensor:
    """A tower's features of a content: random, but the same for equal contents."""
    seed = int.from_bytes(hashlib.sha256(str(content).encode()).digest()[:4], "big")
    return torch.randn(FEATURES, generator=torch.Generator().manual_seed(seed))


def scores_of(
    test: list[Example], labels: tuple[str, ...] = LABELS, train: list[Example] = TRAIN, multi: bool = False
) -> ItemScores:
    """The scores of one model, which answers alike in whatever order it lists its labels."""
    split = Split("test", "made", test)
    data = TaskData(labels, Split("train", "made", train), split, split)
    problem = "multi_label" if multi else "single_label"
    config = TaskConfig.model_validate({"task": "t", "problem": problem, "backbone": "b", "data": {"train": "t.csv"}})
    calibration = dict.fromkeys(Pattern, Calibration(thresholds=(0.5,) * 3 if multi else None))
    model = MissingModalityClassifier.__new__(MissingModalityClassifier)
    torch.nn.Module.__init__(model)
    model.head = Head([LABELS.index(label) for label in labels])  # type: ignore[assignment]
    trained = TrainedTask(config, labels, "", {}, calibration, model, None)  # type: ignore[arg-type]
    targets = torch.tensor([[label in item.labels for label in labels] for item in test]).int()
    encoded = EncodedSplit(
        image=torch.stack([features_of(item.image) for item in test]),
        text=torch.stack([features_of(item.text) for item in test]),
        absent_image=features_of(None),
        absent_text=features_of(None),
        targets=targets if multi else targets.argmax(dim=-1),
        natural=natural_table(split),
    )
    return item_scores(trained, data, encoded)


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("order", [[3, 2, 1, 0], [1, 3, 0, 2], [0, 1, 2, 3, 3, 0], [2, 2, 2, 0, 1, 3]])
def test_neither_the_order_of_the_items_nor_copies_change_the_scores(order: list[int], multi: bool) -> None:
    assert scores_of([TEST[row] for row in order], multi=multi) == scores_of(TEST, multi=multi)


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("labels", [("hat", "bag", "shoe"), ("shoe", "hat", "bag"), ("bag", "shoe", "hat")])
def test_the_order_of_the_labels_does_not_change_the_scores(labels: tuple[str, ...], multi: bool) -> None:
    assert scores_of(TEST, labels, multi=multi) == scores_of(TEST, multi=multi)


@pytest.mark.parametrize(
    "other",
    [
        example(1, b"one", "a bag", "hat"),
        example(1, b"one", "a bag!", "bag"),
        example(1, b"other", "a bag", "bag"),
        example(1, b"one", None, "bag"),
        example(1, None, "a bag", "bag"),
    ],
    ids=["label", "text", "picture", "no text", "no picture"],
)
def test_a_change_of_one_item_is_another_fingerprint(other: Example) -> None:
    assert scores_of([other, *TEST[1:]]).items != scores_of(TEST).items
    assert scores_of(TEST[1:]).items != scores_of(TEST).items


def test_an_item_has_a_score_for_each_pattern_that_it_allows() -> None:
    scores = scores_of(TEST)

    counts = {pattern: sum(score is not None for score in each) for pattern, each in scores.patterns.items()}
    assert counts == {Pattern.BOTH: 2, Pattern.IMAGE: 3, Pattern.TEXT: 3}
    assert {score for each in scores.patterns.values() for score in each} <= {0.0, 1.0, None}


@pytest.mark.parametrize(
    ("train", "label", "majority"),
    [
        (TRAIN, "hat", [0, 0, 1, 1]),
        (TRAIN[3:], "bag", [0, 0, 0, 1]),  # the first of two that are equally frequent
        (TRAIN[4:], "shoe", [0, 0, 0, 1]),
    ],
)
def test_the_majority_label_is_that_of_training(train: list[Example], label: str, majority: list[int]) -> None:
    scores = scores_of(TEST, train=train)

    assert scores.majority_label == label
    assert sorted(scores.majority) == majority


def test_the_majority_label_of_a_multi_label_task_is_scored_by_f1() -> None:
    test = [example(1, None, "a", "hat", "bag"), example(2, None, "b", "hat"), example(3, None, "c"), TEST[2]]

    assert sorted(scores_of(test, multi=True).majority) == [0, 0, pytest.approx(2 / 3, abs=1e-6), 1]


@pytest.mark.parametrize("multi", [False, True])
def test_nothing_of_an_item_is_in_the_scores(multi: bool) -> None:
    written = scores_of(TEST, multi=multi).model_dump_json()

    for item in TEST:
        for part in (item.text, item.picture and item.picture.hex(), item.image and item.image.decode()):
            assert part is None or part not in written
    assert len(written) < 1000


def test_the_scores_of_a_run_are_read_as_they_were_written(tmp_path: Path) -> None:
    scores = scores_of(TEST)
    assert read_item_scores(tmp_path) is None

    write_item_scores(tmp_path, scores)

    assert read_item_scores(tmp_path) == scores


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-20],
        lambda data: data.replace(b'"accuracy"', b'"recall"'),
        lambda data: b"\xff",
    ],
    ids=["empty", "cut", "other metric", "no JSON"],
)
def test_damaged_scores_are_one_error_with_the_cure(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write_item_scores(tmp_path, scores_of(TEST))
    path = tmp_path / "test_scores.json"
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(RunError, match=r"test_scores\.json is damaged .*`mora-train evaluate .*` writes it again"):
        read_item_scores(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_scores.json").mkdir()

    with pytest.raises(RunError, match=r"test_scores\.json: Is a directory"):
        read_item_scores(tmp_path)
