"""Texts that are longer than the backbone reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data.examples import Example
from training.data.splits import Split, TaskData
from training.learning.cut_texts import cut_text_notes
from training.model.input_preview import InputPreview, local_preview


@pytest.fixture(scope="module", params=["tiny_backbone", "tiny_siglip"])
def preview(request: pytest.FixtureRequest) -> InputPreview:
    folder: Path = request.getfixturevalue(request.param)
    preview = local_preview(str(folder))
    assert preview is not None
    return preview


def data_of(*texts: str | None) -> TaskData:
    split = Split("train", "made", [Example(row, b"", text, ("a",)) for row, text in enumerate(texts, start=1)])
    return TaskData(("a", "b"), split, Split("validation", "made", []), Split("test", "made", []))


def test_a_text_that_fits_exactly_is_not_cut(preview: InputPreview) -> None:
    marks = preview.token_counts([""])[0]
    fits = "red " * (preview.max_length - marks)

    assert cut_text_notes(data_of(fits, None, ""), preview) == []
    (note,) = cut_text_notes(data_of(fits, None, f"{fits} red"), preview)
    assert note.startswith(
        f"texts of train that are cut at the {preview.max_length} tokens that the backbone reads: 1 of 2"
    )
    assert "1 of 2 (50%), rows 3; put the words" in note


@pytest.mark.parametrize("texts", [(), (None, None), ("a red picture",)])
def test_without_long_texts_there_is_no_note(preview: InputPreview, texts: tuple[str | None, ...]) -> None:
    assert cut_text_notes(data_of(*texts), preview) == []
