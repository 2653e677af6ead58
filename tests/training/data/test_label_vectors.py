"""Multi-hot label lists are refused, and lists of labels are not."""

from __future__ import annotations

from decimal import Decimal

import pytest

from training.data.label_vectors import refuse_label_vectors
from training.errors import DataError


@pytest.mark.parametrize(
    "cells",
    [
        [[1, 0, 0], [0, 1, 1], [0, 0, 0]],
        [[1.0, 0.0], [0.0, 1.0]],
        [[True, False, True], [False, False, True]],
        [[True, False], [True]],
        [[1, None, 0], None, [], [0, 0, 1]],
        [[0.2, 0.7, 0.1], [0.9, 0.05, 0.05]],
        [[1, -1, 0], [0, 0, 1]],
        [["0", "1", "0"], ["1", "1", "0"]],
        ["0|1|0", "1|0|0"],
        ["True|False", "False|False"],
        [[Decimal(1), Decimal(0)], [Decimal(0), Decimal(0)]],
        [*[[1, 0, 0]] * 19, [1, 0]],
    ],
)
def test_a_number_for_every_label_is_refused(cells: list[object]) -> None:
    with pytest.raises(DataError, match=r"^a.csv: column tags has lists such as \[.*; write the names of the labels"):
        refuse_label_vectors("a.csv", cells, "tags")


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [None, []],
        [["red", "round"], ["blue", "square"]],
        [[0], [1], [1]],
        [["0", "1"], ["1"], ["0"]],
        [[0, 0, 1], [1], [1, 1]],  # the classes of the objects in a picture
        [[3, 7], [0, 1]],
        [[10**400, 1], [0, 1]],
        ["0", "1", "1"],
        [0, 1, True],
        ["red|round", "1|0"],
    ],
)
def test_a_list_of_labels_is_not(cells: list[object]) -> None:
    refuse_label_vectors("a.csv", cells, "tags")


def test_a_long_list_is_shown_in_part() -> None:
    with pytest.raises(DataError, match=r"such as \[0, 0, 0, 0, 0, 0, 0, 0, \.\.\.\], which"):
        refuse_label_vectors("a.csv", [[0] * 500, [1] * 500], "tags")
