"""Copies: by the content of the picture or, without a picture, by the text; counted within and across splits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from training.data.copies import copy_key, copy_numbers, find_repeats, groups_of_copies, leaks
from training.data.examples import Example


def item(row: int, picture: str | None = None, text: str | None = None, label: str = "a") -> Example:
    image = None if picture is None else Path("photos") / f"{row}.png"
    return Example(row, image, text, (label,), None, None if picture is None else picture.encode())


@pytest.mark.parametrize(
    ("first", "second", "are_copies"),
    [
        (item(1, "cat", "a cat"), item(2, "cat", "an animal"), True),
        (item(1, "cat", "a cat"), item(2, "cat", None), True),
        (item(1, "cat", None, "a"), item(2, "cat", None, "b"), True),
        (item(1, None, "thanks", "a"), item(2, None, "thanks", "b"), True),
        (item(1, None, "caf\u00e9  au lait"), item(2, None, " cafe\u0301 au\nlait"), True),
        (item(1, None, "thanks"), item(2, None, "Thanks a lot"), False),
        (item(1, "cat", "as new"), item(2, "dog", "as new"), False),
        (item(1, "cat", "as new"), item(2, None, "as new"), False),
    ],
)
def test_copies_share_their_picture_or_have_none_and_share_their_text(
    first: Example, second: Example, are_copies: bool
) -> None:
    assert (copy_key(first) == copy_key(second)) is are_copies


def test_groups_and_their_items_keep_the_order_of_the_rows() -> None:
    items = [item(1, "cat"), item(2, None, "thanks"), item(3, "cat"), item(4, "dog"), item(5, None, "thanks")]

    assert [[each.row for each in group] for group in groups_of_copies(items)] == [[1, 3], [2, 5], [4]]


@pytest.mark.parametrize(
    ("items", "numbers"),
    [
        ([item(1, "cat"), item(2, "dog"), item(3, "cat"), item(4, "cat", "again")], [0, 1, 0, 0]),
        ([item(1, None, "thanks"), item(2, "cat", "thanks"), item(3, None, " thanks")], [0, 1, 0]),
        ([item(1, None, "a"), item(2, None, "b"), item(3, None, "a", "other")], [0, 1, 0]),
        ([], []),
    ],
)
def test_copies_have_one_number(items: list[Example], numbers: list[int]) -> None:
    assert copy_numbers(items).tolist() == numbers


def test_repeated_pictures_and_items_are_counted_within_and_across_splits() -> None:
    train = [item(1, "cat", "a"), item(2, "cat", "b"), item(3, "cat", "b"), item(4, None, "thanks")]
    test = [item(1, "cat", "c"), item(2, "dog", "d"), item(3, None, "thanks"), item(4, None, "thanks")]

    repeats = find_repeats({"train": train, "test": test})

    assert [(repeat.kind, repeat.splits, len(repeat.groups), repeat.rows) for repeat in repeats] == [
        ("same picture", ("train",), 1, 3),
        ("same picture", ("train", "test"), 1, 4),
        ("same item", ("train",), 1, 2),
        ("same item", ("test",), 1, 2),
        ("same item", ("train", "test"), 1, 3),
    ]
    assert [repeat.shown() for repeat in repeats] == [
        "row 1 ('photos/1.png'), row 2 ('photos/2.png') and 1 more",
        "row 1 ('photos/1.png') of train, row 1 ('photos/1.png') of test and 2 more",
        "row 2 ('photos/2.png') and row 3 ('photos/3.png')",
        "row 3 and row 4",
        "row 4 of train, row 3 of test and 1 more",
    ]


def test_of_many_groups_a_few_are_named() -> None:
    items = [item(row, f"picture {row % 40}") for row in range(200)]

    (repeat,) = find_repeats({"train": items})  # the pictures repeat only as whole items do, so they have no entry

    assert (repeat.kind, len(repeat.groups), repeat.rows) == ("same item", 40, 200)
    assert repeat.shown().endswith("; and 38 more")


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        ([item(3, "cat", "x")], [item(7, "cat", "y"), item(8, "dog")], "1 of the 2 rows of test repeat rows of train"),
        ([item(3, None, "x")], [item(7, None, " x "), item(8, None, "x")], "2 of the 2 rows of test repeat rows"),
        ([item(3, "cat", None, "a")], [item(7, "cat", None, "b")], r"row 3 \('photos/3\.png'\) of train and row 7"),
    ],
)
def test_splits_that_share_items_are_warned_of(train: list[Example], test: list[Example], says: str) -> None:
    (warning,) = leaks({"train": train, "validation": [item(1, "other")], "test": test})

    assert re.search(says, warning)
    assert warning.endswith("The scores on test are too high; remove these rows from one of the two")


def test_splits_without_shared_items_have_no_warning() -> None:
    train = [item(1, "cat", "as new"), item(2, "cat", "as new"), item(3, None, "thanks")]

    assert leaks({"train": train, "test": [item(1, "dog", "as new"), item(2, None, "as new")]}) == []
