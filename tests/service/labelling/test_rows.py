"""The item of a row."""

from __future__ import annotations

import pytest

from service.api.item import Item
from service.errors import Code
from service.labelling.rows import SET_COLUMNS, DataSetError, Limits, answer_columns, choose_columns, item_of

LIMITS = Limits(max_body_bytes=10, max_image_pixels=1, max_text_bytes=5)


@pytest.mark.parametrize("cell", ["a.png", " a.png\n", {"path": "a.png"}, {"bytes": b"", "path": "a.png"}, b"picture"])
def test_a_picture_is_bytes_or_a_path(tmp_path, cell):
    (tmp_path / "a.png").write_bytes(b"picture")

    assert item_of(cell, "", tmp_path, LIMITS) == Item(b"picture", None)


@pytest.mark.parametrize("cell", [None, "", "  ", b"", {"bytes": None, "path": None}])
def test_an_empty_cell_is_a_missing_picture(tmp_path, cell):
    assert item_of(cell, "red", tmp_path, LIMITS) == Item(None, "red")


def test_a_cell_larger_than_a_request_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(bytes(11))

    refused = [
        item_of(*cells, tmp_path, LIMITS).code for cells in (("a.png", None), (bytes(11), None), (None, "redred"))
    ]

    assert refused == [Code.BODY_TOO_LARGE, Code.BODY_TOO_LARGE, Code.TEXT_TOO_LARGE]


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["id", "picture"], "--text-column, such as --image-column picture; it has id, picture"),
        (["Image", "caption"], "--text-column, such as --image-column Image --text-column caption; it has"),
        (["photo_file"], "--text-column, such as --image-column photo_file; it has"),
        (["a", "b"], "--text-column; it has a, b"),
    ],
)
def test_a_data_set_without_the_columns_is_told_the_likely_options(names, hint):
    with pytest.raises(DataSetError) as refused:
        choose_columns(names, None, None, None)

    assert hint in str(refused.value)


@pytest.mark.parametrize("name", SET_COLUMNS)
@pytest.mark.parametrize("coverage", [None, 0.5, 0.9])
def test_a_column_of_the_name_of_a_label_set_is_refused_only_if_the_output_has_label_sets(name, coverage):
    choose = [["text", name], None, None, None, answer_columns(coverage)]

    if coverage is None:
        assert choose_columns(*choose).keep == ("text", name)
    else:
        with pytest.raises(DataSetError, match=f"a column {name} of its own; name the other columns with --keep"):
            choose_columns(*choose)


@pytest.mark.parametrize(
    ("names", "image", "text", "chosen"),
    [
        (["image", "text"], None, "", ("image", None)),
        (["image", "text"], "", None, (None, "text")),
        ([" image", "te\u200bxt"], None, None, (" image", "te\u200bxt")),
        (["Kate\u0301", "text"], "Kat\u00e9", None, ("Kate\u0301", "text")),
        (["", "text"], "", None, (None, "text")),
    ],
)
def test_columns_are_named_as_they_look_and_an_empty_name_is_no_column(names, image, text, chosen):
    columns = choose_columns(names, image, text, None)

    assert (columns.image, columns.text) == chosen
