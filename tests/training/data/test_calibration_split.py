"""Items are set apart to calibrate label sets: at random, equal each time, copies together, tables with their items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from training.config import TaskConfig
from training.data.calibration_split import Divided, different_items, learning_split, set_apart
from training.data.examples import Example
from training.data.missing import Lacks, natural_table
from training.data.splits import Split, TaskData

Make = Callable[..., TaskConfig]


def item(row: int, label: str = "a", **fields: Any) -> Example:
    values = {"image": b"", "text": f"text {row}", "labels": (label,), "picture": row.to_bytes(4, "big"), **fields}
    return Example(row=row, **values)


def divide(config: TaskConfig, items: list[Example]) -> Divided:
    split = Split("validation", "made", items)
    data = TaskData(("a", "b"), replace(split, name="train"), split, replace(split, name="test"))
    return set_apart(config, data, {name: natural_table(each) for name, each in data.splits().items()})


def rows(split: Split | None) -> list[int]:
    return [] if split is None else [item.row for item in split.items]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.75])
def test_the_share_is_set_apart_and_each_item_is_in_one_part(make_config: Make, share: float) -> None:
    items = [item(row, "ab"[row % 3 == 0]) for row in range(1, 201)]
    config = make_config(coverage={"share": share})

    divided = divide(config, items)

    assert len(divided.calibration.items) == 200 * share
    assert sorted(rows(divided.data.validation) + rows(divided.calibration)) == list(range(1, 201))
    assert (divided.data.validation.name, divided.calibration.name) == ("validation", "calibration")
    assert learning_split(config, Split("validation", "made", items)).items == divided.data.validation.items
    assert divided.data.test.items == divided.data.train.items == items


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_the_same_seed_sets_the_same_items_apart_and_another_seed_others(make_config: Make, seed: int) -> None:
    items = [item(row, "ab"[row % 2]) for row in range(1, 151)]
    first, again, other = (
        divide(config, items)
        for config in (
            make_config(data={"train": "x.csv", "seed": seed}, train={"seed": 1}),
            make_config(data={"train": "x.csv", "seed": seed}, train={"seed": 2}),
            make_config(data={"train": "x.csv", "seed": seed + 1}),
        )
    )

    assert rows(first.calibration) == rows(again.calibration)
    assert rows(first.calibration) != rows(other.calibration)


@pytest.mark.parametrize(
    "copy",
    [
        lambda row: item(row, picture=bytes([row // 3])),
        lambda row: item(row, image=None, picture=None, text=f"text {row // 3}"),
        lambda row: item(row, "ab"[row % 2], picture=bytes([row // 3]), text=None),
    ],
    ids=["one picture with three texts", "one text", "one picture with two labels"],
)
def test_copies_stay_together(make_config: Make, copy: Callable[[int], Example]) -> None:
    divided = divide(make_config(), [copy(row) for row in range(3, 453)])

    parts = [{row // 3 for row in rows(part)} for part in (divided.data.validation, divided.calibration)]
    assert [len(part) for part in parts] == [75, 75]
    assert not parts[0] & parts[1]


@pytest.mark.parametrize(
    ("items", "share", "apart"),
    [
        ([item(row) for row in range(99)], 0.5, 0),
        ([item(row) for row in range(100)], 0.5, 50),
        ([item(row) for row in range(300)], 0, 0),
        ([item(row, picture=bytes([row % 99])) for row in range(300)], 0.5, 0),
        ([item(row, picture=b"one") for row in range(300)], 0.5, 0),
        ([item(row) for row in range(100)], 0.001, 1),
        ([item(row) for row in range(100)], 0.999, 99),
    ],
    ids=["99 items", "100 items", "no share", "99 different items", "one item", "a small share", "a large share"],
)
def test_small_splits_are_not_divided_and_no_part_is_empty(
    make_config: Make, items: list[Example], share: float, apart: int
) -> None:
    divided = divide(make_config(coverage={"share": share}), items)

    assert len(rows(divided.calibration)) == apart
    assert len(rows(divided.data.validation)) == len(items) - apart
    assert (divided.calibration_table is None) is (divided.calibration is None) is (apart == 0)
    assert different_items(Split("validation", "made", items)) == len({each.picture for each in items})


@pytest.mark.parametrize("lacking", [Lacks.NOTHING, Lacks.TEXT, Lacks.IMAGE])
def test_each_item_keeps_its_entry_of_the_table(make_config: Make, lacking: Lacks) -> None:
    """Every third item lacks a modality in the data itself, and every fifth loses its text."""
    lost = {Lacks.TEXT: {"text": None}, Lacks.IMAGE: {"image": None, "picture": None}, Lacks.NOTHING: {}}[lacking]
    items = [item(row, **(lost if row % 3 == 0 else {})) for row in range(160)]
    split = Split("validation", "made", items)
    data = TaskData(("a",), split, split, split)
    table = natural_table(split)
    table[(np.arange(160) % 5 == 0) & (table == Lacks.NOTHING)] = Lacks.TEXT

    divided = set_apart(make_config(), data, dict.fromkeys(("train", "validation", "test"), table))

    entry_of = dict(zip(range(160), table, strict=True))
    for part, own in (
        (divided.data.validation, divided.tables["validation"]),
        (divided.calibration, divided.calibration_table),
    ):
        assert own.tolist() == [entry_of[row] for row in rows(part)]
    assert divided.tables["train"] is divided.tables["test"] is table


@pytest.mark.parametrize("sizes", [{"a": 150}, {"a": 99, "b": 1}, {f"label {number}": 1 for number in range(120)}])
def test_items_of_rare_labels_are_set_apart_as_often_as_others(make_config: Make, sizes: dict[str, int]) -> None:
    """Test items have rare labels as often as validation items, and calibration items must be like test items."""
    labels = [label for label, count in sizes.items() for _ in range(count)]
    items = [item(row, label) for row, label in enumerate(labels)]
    rarest, apart = labels[-1], Counter[bool]()
    for seed in range(60):
        divided = divide(make_config(data={"train": "x.csv", "seed": seed}), items)
        apart[rarest in {label for each in divided.calibration.items for label in each.labels}] += 1

    if sizes[rarest] == 1:
        assert 15 < apart[True] < 45  # 60 draws of one in two
    else:
        assert apart[True] == 60


@pytest.mark.parametrize("labels", [("a",), ("a", "b"), ()])
def test_labels_with_two_items_are_in_both_halves(make_config: Make, labels: tuple[str, ...]) -> None:
    items = [item(row, labels=("common",)) for row in range(118)] + [item(row, labels=labels) for row in (118, 119)]
    for seed in range(10):
        divided = divide(make_config(problem="multi_label", data={"train": "x.csv", "seed": seed}), items)
        assert len({118, 119} & set(rows(divided.calibration))) == 1
