"""The folds of a cross-validation: each row is tested once, copies stay together, labels are spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.config import TaskConfig
from training.data.copies import copy_key
from training.data.examples import Example
from training.data.folds import draw_folds, fold_data
from training.data.splits import load_data
from training.errors import DataError

Make = Callable[..., TaskConfig]


def items_of(keys: list[tuple[int, list[str]]]) -> list[Example]:
    return [Example(row, b"x", "", tuple(labels), None, str(key).encode()) for row, (key, labels) in enumerate(keys, 1)]


def csv_of(folder: Path, labels: list[str], texts: list[str] | None = None) -> str:
    texts = texts or [f"text {number}" for number in range(len(labels))]
    rows = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    path = folder / f"{len(labels)}.csv"
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return str(path)


@given(
    keys=st.lists(
        st.tuples(st.integers(0, 15), st.lists(st.sampled_from("abc"), max_size=3, unique=True)),
        min_size=2,
        max_size=60,
    ),
    folds=st.integers(2, 6),
    seed=st.integers(0, 3),
)
@settings(deadline=None)
def test_each_group_of_copies_is_whole_in_one_fold(keys: list[tuple[int, list[str]]], folds: int, seed: int) -> None:
    items = items_of(keys)
    groups = {copy_key(item) for item in items}
    if len(groups) < folds:
        with pytest.raises(DataError, match=f"too few for {folds} folds; give at most {len(groups)}"):
            draw_folds(items, folds, seed, "shop.csv")
        return

    fold_of = draw_folds(items, folds, seed, "shop.csv")

    assert fold_of.keys() == {item.row for item in items}
    assert len({(copy_key(item), fold_of[item.row]) for item in items}) == len(groups)
    assert {*fold_of.values()} == {*range(folds)}
    assert fold_of == draw_folds(items, folds, seed, "shop.csv")


@pytest.mark.parametrize(("sizes", "folds"), [({"a": 40, "b": 10}, 5), ({"a": 7, "b": 5, "c": 3}, 3), ({"a": 9}, 4)])
def test_each_fold_has_its_share_of_each_label(sizes: dict[str, int], folds: int) -> None:
    labels = [label for label, count in sizes.items() for _ in range(count)]
    items = items_of([(number, [label]) for number, label in enumerate(labels)])

    fold_of = draw_folds(items, folds, 0, "shop.csv")

    counts = Counter((fold_of[item.row], item.labels[0]) for item in items)
    for label, count in sizes.items():
        assert {counts[fold, label] for fold in range(folds)} <= {count // folds, -(-count // folds)}
    totals = Counter(fold_of.values())
    assert max(totals.values()) - min(totals.values()) <= 1


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_row_is_tested_once_by_a_run_that_did_not_see_it(make_config: Make, tmp_path: Path, folds: int) -> None:
    config = make_config(data={"train": csv_of(tmp_path, ["a", "b"] * 20), "image": None})
    data = load_data(config)

    runs, notes = fold_data(config, data, folds)

    assert sorted(item.row for run in runs for item in run.test.items) == [*range(1, 41)]
    for run in runs:
        rows = [item.row for split in run.splits().values() for item in split.items]
        assert sorted(rows) == [*range(1, 41)]
        assert run.validation.items
        assert run.labels == ("a", "b")
    assert notes == (f"{folds} folds of 40 rows of {config.data.train} (train, validation, test)",)


@pytest.mark.parametrize("given", [("validation",), ("test",), ("validation", "test")])
def test_splits_that_the_data_comes_with_are_no_part_of_the_folds(
    make_config: Make, tmp_path: Path, given: tuple[str, ...]
) -> None:
    sizes = {"train": 30, "validation": 12, "test": 14}
    paths = {name: csv_of(tmp_path, ["a", "b"] * (sizes[name] // 2)) for name in ("train", *given)}
    config = make_config(data={**paths, "image": None})
    data = load_data(config)

    runs, notes = fold_data(config, data, 3)

    assert sum(len(run.test.items) for run in runs) == 30
    if "validation" in given:
        assert all(run.validation is data.validation for run in runs)
    assert any("(test) untouched" in note for note in notes) is ("test" in given)


@pytest.mark.parametrize(
    ("labels", "folds", "problem"),
    [
        (["a", "b"] * 5, 11, "has 10 rows, too few for 11 folds; give at most 10"),
        (["a", "b"] * 3 + ["a"] * 20, 100, "has 26 rows, too few for 100 folds; give at most 26"),
        (["a"] * 12 + ["b"], 3, "train has a as its only label; give another number of folds, or add items"),
    ],
)
def test_folds_that_cannot_be_drawn_are_one_line(
    make_config: Make, tmp_path: Path, labels: list[str], folds: int, problem: str
) -> None:
    config = make_config(data={"train": csv_of(tmp_path, labels), "image": None})

    with pytest.raises(DataError) as error:
        fold_data(config, load_data(config), folds)

    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_copies_count_as_one_group(make_config: Make, tmp_path: Path) -> None:
    texts = [f"text {number % 4}" for number in range(40)]
    config = make_config(data={"train": csv_of(tmp_path, ["a", "b"] * 20, texts), "image": None})

    with pytest.raises(DataError, match="40 rows in 4 groups of copies, too few for 5 folds; give at most 4"):
        fold_data(config, load_data(config), 5)


@pytest.mark.parametrize(("rare", "folds"), [(1, 3), (2, 3), (4, 5)])
def test_labels_that_some_fold_cannot_test_are_named(make_config: Make, tmp_path: Path, rare: int, folds: int) -> None:
    config = make_config(data={"train": csv_of(tmp_path, ["a", "b"] * 15 + ["rare"] * rare), "image": None})

    _, notes = fold_data(config, load_data(config), folds)

    assert notes[-1].endswith(f"than the {folds} folds: rare ({rare}); not every fold tests them")
