"""The first row that has changed is named: its number, its file, its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from training.data.examples import Example
from training.data.row_digests import first_change, row_digests
from training.data.splits import Split, TaskData


def item(row: int, **fields: object) -> Example:
    values = {"image": None, "text": f"text {row}", "labels": ("ab"[row % 2],), "picture": None}
    return Example(row, **{**values, **fields})  # type: ignore[arg-type]


def data_of(train: list[Example], validation: list[Example], test: list[Example], source: str = "rows.csv") -> TaskData:
    sources = {"train": "rows.csv", "validation": source, "test": source}
    items = {"train": train, "validation": validation, "test": test}
    return TaskData(("a", "b"), **{name: Split(name, sources[name], items[name]) for name in items})


ROWS = [item(row) for row in range(1, 9)]
DATA = data_of(ROWS[:4], ROWS[4:6], ROWS[6:])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda row: replace(row, text="other"), "row 3 of rows.csv differs"),
        (lambda row: replace(row, labels=("b", "a")), "row 3 of rows.csv differs"),
        (lambda row: replace(row, image=b"png", picture=b"sha"), "row 3 of rows.csv differs"),
        (
            lambda row: replace(row, image=Path("photos/3.png"), picture=b"sha"),
            f"row 3 ({Path('photos/3.png')}) of rows.csv differs",
        ),
    ],
)
def test_a_row_that_differs_is_named(change: Callable[[Example], Example], says: str) -> None:
    changed = [change(row) if row.row == 3 else row for row in ROWS]

    assert first_change(row_digests(DATA), data_of(changed[:4], changed[4:6], changed[6:])) == says


def test_rows_that_came_or_went_are_named() -> None:
    before = row_digests(DATA)

    assert first_change(before, data_of(ROWS[:4], ROWS[4:6], [*ROWS[6:], item(9)])) == (
        "row 9 of rows.csv is new (there are 9 rows, and were 8)"
    )
    assert first_change(before, data_of(ROWS[1:4], ROWS[4:6], ROWS[6:])) == (
        "row 1 of rows.csv is gone (there are 7 rows, and were 8)"
    )


def test_rows_that_were_drawn_into_other_splits_are_the_same() -> None:
    assert first_change(row_digests(DATA), data_of(ROWS[2:6], ROWS[6:], ROWS[:2])) is None


def test_splits_of_files_of_their_own_are_compared_by_file() -> None:
    files = data_of(ROWS[:2], [item(1)], [item(2)], source="other.csv")

    assert first_change(row_digests(files), data_of(ROWS[:2], [item(1)], [item(2, text="x")], source="other.csv")) == (
        "row 2 of other.csv differs"
    )


def test_splits_that_number_their_rows_anew_are_not_mixed() -> None:
    data = data_of(ROWS[:2], ROWS[:2], [item(1, text="x")])

    assert set(row_digests(data)) == {"train", "validation", "test"}
    assert first_change(row_digests(data), data) is None
