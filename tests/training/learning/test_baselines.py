"""What the majority of the training split and chance score."""

from __future__ import annotations

import pytest

from model_store import Problem
from training.data.examples import Example
from training.data.splits import Split, TaskData
from training.learning.baselines import baselines

LABELS = ("a", "b", "c")


def items(*labels: str, image: bytes | None = b"", text: str | None = "t") -> list[Example]:
    """An item for each text, whose characters are its labels."""
    return [Example(row, image, text, tuple(each)) for row, each in enumerate(labels, start=1)]


def data(train: list[Example], scored: list[Example], labels: tuple[str, ...] = LABELS) -> TaskData:
    parts = {"train": train, "validation": scored, "test": scored}
    return TaskData(labels, **{name: Split(name, "made", part) for name, part in parts.items()})


@pytest.mark.parametrize(
    ("train", "scored", "labels", "metric", "majority", "chance"),
    [
        ("aab", "aabbc", ("a", "b", "c"), "accuracy", 0.4, 1 / 3),
        ("abb", "aabbc", ("a", "b", "c"), "accuracy", 0.4, 1 / 3),
        ("ccc", "aabb", ("a", "b", "c"), "accuracy", 0.0, 1 / 3),
        ("aab", "ab", ("a", "b"), "auroc", 0.5, 0.5),
        ("aab", "aa", ("a", "b"), "accuracy", 1.0, 0.5),
    ],
)
def test_a_single_label_task(
    train: str, scored: str, labels: tuple[str, ...], metric: str, majority: float, chance: float
) -> None:
    result = baselines(data(items(*train), items(*scored), labels), Problem.SINGLE_LABEL)

    assert result["metric"] == metric
    for split in ("validation", "test"):
        assert result[split]["overall"] == pytest.approx({"majority": majority, "chance": chance}, abs=1e-6)


@pytest.mark.parametrize(
    ("train", "chosen", "majority"),
    [
        (("ab", "ab", "c"), ["a", "b"], 4 / 9),
        (("a", "b", "c"), [], 0.0),
        (("abc", "abc"), ["a", "b", "c"], 2 / 3),
    ],
)
def test_a_multi_label_task(train: tuple[str, ...], chosen: list[str], majority: float) -> None:
    result = baselines(data(items(*train), items("ab", "bc", "ca", "")), Problem.MULTI_LABEL)

    assert (result["metric"], result["majority_labels"]) == ("macro_f1", chosen)
    assert result["test"]["overall"] == {"majority": pytest.approx(majority, abs=1e-6), "chance": pytest.approx(0.5)}


def test_a_view_without_items_has_no_baseline() -> None:
    result = baselines(data(items("a", "b", image=None), items("a", "c", "c", image=None)), Problem.SINGLE_LABEL)

    assert result["test"]["image"] == {"majority": None, "chance": None}
    assert result["test"]["text"]["majority"] == pytest.approx(1 / 3, abs=1e-6)
