"""The random split: by groups of copies, stratified by label, the same for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.copies import copy_key
from training.data.examples import Example
from training.data.held_out import draw_held_out, held_out_notes

SHARES = {"validation": 0.1, "test": 0.2}


def item(row: int, key: object, labels: tuple[str, ...]) -> Example:
    """An item with a picture of this key and a text of its own."""
    return Example(row, b"x", f"text {row}", labels, None, str(key).encode())


def pictures(labels: int, of_label: int, rows: int) -> list[Example]:
    """Each label with some pictures, and each picture with some rows."""
    keys = [(label, number) for label in range(labels) for number in range(of_label) for _ in range(rows)]
    return [item(row, key, (f"label {key[0]}",)) for row, key in enumerate(keys, start=1)]


def split_of(items: list[Example], seed: int = 0) -> dict[str, list[Example]]:
    held_out = draw_held_out(items, SHARES, seed)
    return {
        name: [item for item in items if held_out.get(item.row, "train") == name]
        for name in ("train", "validation", "test")
    }


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 12), st.lists(st.sampled_from("abc"), max_size=3, unique=True)),
        min_size=2,
        max_size=60,
    ),
    has_pictures=st.booleans(),
    seed=st.integers(0, 3),
)
@settings(deadline=None)
def test_no_group_of_copies_is_divided_and_no_label_leaves_train(
    rows: list[tuple[int, list[str]]], has_pictures: bool, seed: int
) -> None:
    """Also of several labels, or none, whatever the sizes of the groups are."""
    items = [
        item(row, key, tuple(labels)) if has_pictures else Example(row, None, f"text {key}", tuple(labels))
        for row, (key, labels) in enumerate(rows, start=1)
    ]

    splits = split_of(items, seed)

    keys = {name: {copy_key(item) for item in split} for name, split in splits.items()}
    assert sum(map(len, keys.values())) == len(set.union(*keys.values()))
    assert sorted(item.row for split in splits.values() for item in split) == [item.row for item in items]
    labels = {label for item in items for label in item.labels}
    assert {label for item in splits["train"] for label in item.labels} == labels
    assert splits == split_of(items, seed)


@pytest.mark.parametrize(
    ("seed", "validation", "test"),
    [
        (0, [13, 15, 21, 33, 41, 57], [5, 6, 8, 10, 22, 26, 28, 35, 38, 45, 47, 50]),
        (1, [2, 12, 42, 48, 50, 55], [1, 5, 7, 14, 17, 23, 27, 31, 40, 41, 54, 58]),
    ],
)
def test_without_copies_the_split_never_changes(seed: int, validation: list[int], test: list[int]) -> None:
    """A finished run is opened with the split that it was trained with."""
    labels = ["a", "b", "b", "c", "c", "c", "c"]
    items = [Example(row, None, f"text {row}", ("rare" if row == 30 else labels[row % 7],)) for row in range(1, 61)]

    splits = split_of(items, seed)

    assert [item.row for item in splits["validation"]] == validation
    assert [item.row for item in splits["test"]] == test


@pytest.mark.parametrize(("labels", "of_label", "rows"), [(3, 50, 5), (2, 40, 1), (4, 20, 7)])
def test_each_label_has_its_share_of_each_split(labels: int, of_label: int, rows: int) -> None:
    splits = split_of(pictures(labels, of_label, rows))

    for name, share in SHARES.items():
        counts = Counter(item.labels for item in splits[name])
        assert len(counts) == labels
        assert all(abs(count - share * of_label * rows) <= rows for count in counts.values())


@pytest.mark.parametrize(("labels", "of_label", "rows"), [(20, 4, 5), (10, 3, 10), (20, 2, 50)])
def test_labels_of_few_pictures_give_them_in_turn(labels: int, of_label: int, rows: int) -> None:
    """No label has so many pictures that its share of validation is a whole one."""
    splits = split_of(pictures(labels, of_label, rows))

    total = labels * of_label * rows
    assert len(splits["validation"]) == pytest.approx(0.1 * total, abs=rows)
    assert len(splits["test"]) == pytest.approx(0.2 * total, abs=2 * rows)
    assert len({item.labels for item in splits["train"]}) == labels


@pytest.mark.parametrize("same", [40, 60, 92])
def test_a_giant_group_stays_in_train_and_the_other_rows_are_divided(same: int) -> None:
    items = [item(row, "placeholder" if row <= same else row, ("ab"[row % 2],)) for row in range(1, 101)]

    splits = split_of(items)

    assert {item.row for item in splits["train"]} >= set(range(1, same + 1))
    assert 0 < len(splits["validation"]) <= len(splits["test"])
    assert len(splits["test"]) <= 0.3 * (100 - same) + 1
    (_, _, note) = held_out_notes("shop.csv", splits, SHARES)
    assert note.startswith(f"{same} rows have the same picture (row 1, row 2 and {same - 2} more), so all are in train")


def test_a_text_of_many_rows_stays_in_one_split_and_is_named() -> None:
    items = [Example(row, None, "thanks" if row % 3 else f"text {row}", ("ab"[row % 2],)) for row in range(1, 91)]

    splits = split_of(items)

    (sizes, copies, note) = held_out_notes("chat.csv", splits, SHARES)
    assert sizes == f"held out of chat.csv: {len(splits['validation'])} for validation, {len(splits['test'])} for test"
    assert copies.startswith(
        "60 rows of chat.csv have the same picture as another row, or no picture and the same text"
    )
    assert "60 rows have no picture and the same text (row 1, row 2 and 58 more), so all are in train" in note


def test_without_copies_only_the_sizes_are_noted() -> None:
    assert len(held_out_notes("shop.csv", split_of(pictures(2, 20, 1)), SHARES)) == 1


def labelled(sizes: dict[str, int]) -> list[Example]:
    """Rows without copies, so many of each label."""
    labels = [label for label, count in sizes.items() for _ in range(count)]
    return [Example(row, None, f"text {row}", (label,)) for row, label in enumerate(labels, start=1)]


@pytest.mark.parametrize(
    ("sizes", "validation", "test"),
    [
        ({f"label {number}": 2 for number in range(100)}, 20, 40),
        ({f"label {number}": 3 for number in range(50)}, 15, 30),
        ({f"label {number}": 5 for number in range(8)}, 4, 8),
        ({"a": 40, "b": 20, **{f"rare {number}": 2 for number in range(20)}}, 10, 20),
        ({**{f"single {number}": 1 for number in range(30)}, **{f"pair {number}": 2 for number in range(20)}}, 4, 8),
        ({"a": 2, "b": 2}, 1, 1),
    ],
)
def test_labels_of_few_rows_are_pooled(sizes: dict[str, int], validation: int, test: int) -> None:
    """A label of two rows has no share of its own in either split."""
    items = labelled(sizes)

    splits = split_of(items)

    assert [len(splits["validation"]), len(splits["test"])] == [validation, test]
    assert {item.labels[0] for item in splits["train"]} == {*sizes}
    assert splits == split_of(items)


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"a": 40, "b": 40, "x": 2, "y": 3}, "x, y"),
        ({"a": 40, "b": 40, "x": 5, "single": 1}, "x"),
        ({f"label {number:02}": 2 for number in range(30)}, "label 00, label 01"),
    ],
)
def test_the_labels_that_are_pooled_are_named(sizes: dict[str, int], named: str) -> None:
    (note,) = [note for note in held_out_notes("shop.csv", split_of(labelled(sizes)), SHARES) if "pooled" in note]

    assert note.startswith(f"labels with too few rows for their share in each split: {named}")
    assert note.endswith("divided at random, so that validation or test may lack some of these labels")


@pytest.mark.parametrize("sizes", [{"a": 40, "b": 6}, {"a": 10, "single": 1}, {"a": 6, "b": 6, "c": 6}])
def test_without_labels_of_few_rows_none_are_pooled(sizes: dict[str, int]) -> None:
    assert not any("pooled" in note for note in held_out_notes("shop.csv", split_of(labelled(sizes)), SHARES))
