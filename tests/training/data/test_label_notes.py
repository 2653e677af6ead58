"""Notes on labels."""

from __future__ import annotations

import pytest

from training.data.label_notes import (
    Spellings,
    joined_notes,
    row_name,
    similar_notes,
    spelling_notes,
    spellings_of,
    unlabelled_note,
    unseen_notes,
)


def notes_of(*labels: object, several: bool = False) -> list[str]:
    return [*spelling_notes(spellings_of([{"label": label} for label in labels], several))]


@pytest.mark.parametrize("labels", [(), ("a", "b", "a"), (1, "1", 2), (None, "", float("nan"), "a"), ("\u200ba",) * 2])
def test_labels_of_one_spelling_each_need_no_note(labels: tuple[object, ...]) -> None:
    assert notes_of(*labels) == []


def test_a_note_counts_the_spellings_of_each_merged_label() -> None:
    labels = ["tea", "caf\u00e9", "cafe\u0301", "cafe\u0301", " tea", "milk", 1, 1.0]

    assert notes_of(*labels) == [
        "merged labels that look alike: 'tea' (2 rows, 1 as 'tea', 1 as ' tea'), "
        "'caf\u00e9' (3 rows, 2 as 'cafe\\u0301', 1 as 'caf\\xe9'), '1' (2 rows, 1 as '1', 1 as '1.0')"
    ]


def test_the_labels_of_a_list_and_of_joined_text_are_counted_one_by_one() -> None:
    assert notes_of(["tea", None], "milk|tea\u200b", several=True) == [
        "merged labels that look alike: 'tea' (2 rows, 1 as 'tea', 1 as 'tea\\u200b')"
    ]


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "<NA>", "null", "n/a"])
def test_a_word_that_reads_like_an_empty_cell_is_named(word: str) -> None:
    assert notes_of(word, "a") == [f"these words are labels: {word}; leave their cells empty if they mean no label"]


def test_of_many_merged_labels_ten_are_listed() -> None:
    spellings = Spellings({(f"label {number}", text): 1 for number in range(12) for text in "xy"})

    (note,) = spelling_notes(spellings)

    assert "'label 9' (2 rows" in note
    assert note.endswith(" and 2 more")


@pytest.mark.parametrize(
    ("image", "name"),
    [(None, "3"), ("", "3"), (b"picture", "3"), (" a.png", "3 (' a.png')"), ("\udcff.png", "3 ('\\udcff.png')")],
)
def test_a_row_has_the_name_of_its_picture(image: object, name: str) -> None:
    assert row_name(3, image) == name


@pytest.mark.parametrize(
    ("rows", "are_kept", "note"),
    [
        (["3"], False, "1 row has no label and was left out: row 3"),
        (["3", "7 (a.png)"], False, "2 rows have no label and were left out: rows 3, 7 (a.png)"),
        (["3", "4"], True, "2 rows have no label and were kept, as items to which no label applies: rows 3, 4"),
        ([str(row) for row in range(1_200)], False, "1,200 rows have no label and were left out: rows 0, 1, 2, 3"),
    ],
)
def test_a_note_says_how_many_rows_have_no_label_and_what_becomes_of_them(
    rows: list[str], are_kept: bool, note: str
) -> None:
    assert unlabelled_note(rows, are_kept).startswith(note)


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (["Cat", "cat", "dog"], "'Cat' (1) and 'cat' (1)"),
        (["STRASSE", "straße", "b"], "'STRASSE' (1) and 'straße' (1)"),
        (["\uff21", "a", "b"], "'\uff21' (1) and 'a' (1)"),
        (["x", "X", "y", "Y"], "'x' (1) and 'X' (1), 'y' (1) and 'Y' (1)"),
    ],
)
def test_labels_that_differ_only_in_case_or_form_are_named(labels: list[str], groups: str) -> None:
    (note,) = similar_notes(dict.fromkeys(labels, 1))

    assert note.startswith(f"labels that differ only in case or in the form of characters: {groups}; write them alike")


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (["1", "1.0", "2", "2.00", "3"], "'1' (1) and '1.0' (1), '2' (1) and '2.00' (1)"),
        (["01", "1", "x"], "'01' (1) and '1' (1)"),
        (["0.5", ".5", "5e-1", "+0.50"], "'0.5' (1) and '.5' (1) and '5e-1' (1) and '+0.50' (1)"),
        (["-0", "0"], "'-0' (1) and '0' (1)"),
    ],
)
def test_labels_that_are_equal_as_numbers_are_named(labels: list[str], groups: str) -> None:
    (note,) = similar_notes(dict.fromkeys(labels, 1))

    assert note.startswith(f"labels that differ only in how a number is written: {groups}; write them alike")


@pytest.mark.parametrize("labels", [["12345678901234567890", "12345678901234567891"], ["nan", "inf", "1_0", "10"]])
@pytest.mark.parametrize("more", [[], ["cat", "dog"], ["a b", "ab"], ["1", "l"]])
def test_other_labels_are_not(labels: list[str], more: list[str]) -> None:
    assert [*similar_notes(dict.fromkeys([*labels, *more], 1))] == []


@pytest.mark.parametrize(
    ("labels", "joined"),
    [
        (["a|b", "c"], "'a|b'"),
        (["red,blue", "blue, green", "red"], "'red,blue', 'blue, green'"),
        (["red;blue", "red", "x"], "'red;blue'"),
        (["['a', 'b']", "c"], "\"['a', 'b']\""),
        (["{a}", "(b)", "c"], "'{a}', '(b)'"),
        (["x/y", "y", "z"], "'x/y'"),
    ],
)
@pytest.mark.parametrize(("is_multi", "cure"), [(False, "set problem: multi_label"), (True, 'joins labels by "|"')])
def test_labels_that_look_like_lists_are_named(labels: list[str], joined: str, is_multi: bool, cure: str) -> None:
    (note,) = joined_notes(dict.fromkeys(labels, 2), "tags", is_multi)

    assert f"of column tags look like lists in one text: {joined}; " in note
    assert cure in note


@pytest.mark.parametrize(
    "labels", [["Home, Garden & Tools", "Music"], ["AC/DC", "Abba"], ["Portland, OR", "Boston, MA"], ["a b", "a"]]
)
def test_names_with_separators_are_not_lists(labels: list[str]) -> None:
    assert [*joined_notes(dict.fromkeys(labels, 2), "tags", is_multi=False)] == []


@pytest.mark.parametrize(
    ("counts", "notes"),
    [
        ({"validation": {"a": 1, "b": 2}, "test": {"a": 1, "b": 1}}, []),
        (
            {"validation": {"a": 1}, "test": {"b": 1}},
            ["no item of validation has 1 of the 2 labels: b", "no item of test has 1 of the 2 labels: a"],
        ),
        ({"validation": {"a": 1, "b": 1}, "test": {}}, ["no item of test has 2 of the 2 labels: a, b"]),
    ],
)
def test_labels_that_a_scored_split_lacks_are_named(counts: dict[str, dict[str, int]], notes: list[str]) -> None:
    assert [*unseen_notes(["a", "b"], counts)] == notes
