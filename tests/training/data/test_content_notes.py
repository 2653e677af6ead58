"""Notes on texts that stand for nothing, on empty columns, and on rows that repeat.

Covers training.data.empty_words.
"""

from __future__ import annotations

import pytest

from training.config import DataConfig
from training.data.content_notes import empty_column_notes, empty_word_notes, repeat_notes
from training.data.empty_words import reads_as_empty
from training.data.examples import Example

DATA = DataConfig(train="rows.csv", image="photo", text="caption")


def items_of(*texts: str | None, image: bytes | None = b"p") -> list[Example]:
    return [Example(row, image, text, ("a",)) for row, text in enumerate(texts, start=1)]


@pytest.mark.parametrize(
    "text", ["NA", "n/a", "null", "None", "NaN", "-", "--", "?", " nil ", "(none)", "[]", "\u2014"]
)
def test_words_and_marks_that_stand_for_nothing(text: str) -> None:
    assert reads_as_empty(text)


@pytest.mark.parametrize("text", ["", "  ", "nine", "a-b", "none of these", "N A", "5", "\u4e2d", "no"])
def test_other_texts_do_not(text: str) -> None:
    assert not reads_as_empty(text)


def test_texts_that_stand_for_nothing_are_counted_by_word() -> None:
    (note,) = empty_word_notes("train", items_of("NA", "a hat", "-", None, "NA"), "caption")

    assert note.startswith(
        "texts of train that read like an empty cell: 'NA' (2), '-' (1); leave these cells of column "
    )
    assert note.endswith("caption empty if they mean no text (rows 1, 3, 5)")
    assert [*empty_word_notes("train", items_of("a hat", None), "caption")] == []


@pytest.mark.parametrize(
    ("items", "columns"),
    [
        (items_of("a", "b", image=None), ["column photo is empty in all 2 rows of test; set data.image"]),
        (items_of(None, None), ["column caption is empty in all 2 rows of test; set data.text"]),
        (items_of("a", None), []),
    ],
)
def test_a_column_without_values_is_one_note(items: list[Example], columns: list[str]) -> None:
    notes = [*empty_column_notes("test", items, DATA)]

    assert [note.partition(" to another")[0] for note in notes] == columns
    assert [*empty_column_notes("test", items, DATA.model_copy(update={"image": None, "text": None}))] == []


@pytest.mark.parametrize(("labels", "differ"), [(("a", "a"), False), (("a", "b"), True), (("a", "a", "b"), True)])
def test_rows_that_repeat_are_named_and_whether_their_labels_differ(labels: tuple[str, ...], differ: bool) -> None:
    items = [Example(row, None, "same", (label,)) for row, label in enumerate(labels, start=1)]
    items.append(Example(9, None, "own", ("a",)))

    notes = [*repeat_notes("train", items)]

    assert notes[0].startswith(f"{len(labels)} rows of train have the picture and text of another row (row 1")
    assert any("have different labels" in note for note in notes) is differ
    assert [*repeat_notes("train", items[-1:])] == []
