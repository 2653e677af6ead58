"""Tables of files and of folders of pictures."""

from __future__ import annotations

import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_store.items.rows import TableError
from model_store.items.tables import folder_rows, open_table


def write(folder, name):
    """Two rows of the columns a and b, the second without b."""
    contents = {"a.CSV": "a,b\n1,2\n3,\n", "a.JSONL": '{"a": "1", "b": "2"}\n{"a": "3"}\n'}
    if name in contents:
        (folder / name).write_text(contents[name])
    else:
        pq.write_table(pa.table({"a": ["1", "3"], "b": ["2", None]}), folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["a.CSV", "a.JSONL", "a.PARQUET"])
def test_opening_a_table_gives_its_column_names_and_row_count(tmp_path, name):
    table = open_table(write(tmp_path, name))

    assert ([*table.names], table.rows, table.folder) == (["a", "b"], 2, tmp_path)
    first, second = table.chunks(["a", "b"], 1)
    assert first == [{"a": "1", "b": "2"}]
    assert second[0]["a"] == "3"
    assert not second[0]["b"]
    assert [*table.chunks(["a"], 5)] == [[{"a": "1"}, {"a": "3"}]]


def test_a_folder_is_a_table_of_its_pictures(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(b"picture")

    table = open_table(tmp_path)

    assert (table.names, table.rows, table.folder) == (["image", "label"], 1, tmp_path)
    assert [*table.chunks(["image", "label"], 5)] == [[{"image": "cat/1.png", "label": "cat"}]]


def test_pictures_are_sorted_by_path_and_labelled_with_their_first_folder(tmp_path):
    names = ["b/2.PNG", "b/1.jpeg", "a/deep/er/x.webp", "a/z.png", "a-b/y.png", "a.png", "z.tif"]
    for name in [*names, ".thumbs/d.png", "a/.e.png", "a/notes.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()

    assert [(row["image"], row["label"]) for row in folder_rows(tmp_path)] == [
        ("a/deep/er/x.webp", "a"),
        ("a/z.png", "a"),
        ("a-b/y.png", "a-b"),
        ("a.png", None),
        ("b/1.jpeg", "b"),
        ("b/2.PNG", "b"),
        ("z.tif", None),
    ]


@pytest.mark.parametrize(
    "content", ["a,b,\n1,2,\n", "a,b,,\n1,2,,\n", "a,b\n1,2,\n", "a,b, ,\n1,2\n", "sep=,\na,b,\n1,2,\u00a0\n"]
)
def test_empty_columns_at_the_end_of_a_spreadsheet_are_left_out(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)

    table = open_table(tmp_path / "a.csv")

    assert table.names == ["a", "b"]
    assert [*table.chunks(table.names, 5)] == [[{"a": "1", "b": "2"}]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "a,b,a\n", "has the column 'a' more than once; rename all but one"),
        ("a.csv", "a,b\n1\n", "cannot be read as csv: line 2 has 1 cells, the header 2"),
        ("a.csv", "a,,b,,c\n", "has several columns without a name"),
        ("a.csv", "a,b,\n1,2,3\n", "line 2 has 3 cells, the header 2; give it a cell for each column"),
        ("a.jsonl", "[]\n", "cannot be read as jsonl: line 1 is not a JSON object"),
        ("a.txt", "a", r"neither a folder of pictures nor a \.csv, \.jsonl, \.parquet file"),
    ],
)
def test_opening_a_malformed_file_raises_an_error_with_the_cure(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)

    with pytest.raises(TableError, match=message):
        open_table(tmp_path / name)


def test_only_an_existing_regular_file_is_read(tmp_path):
    os.mkfifo(tmp_path / "a.csv")

    with pytest.raises(TableError, match="has to be a plain file"):
        open_table(tmp_path / "a.csv")
    with pytest.raises(TableError, match=r"there is no .*b\.csv"):
        open_table(tmp_path / "b.csv")


def test_parquet_without_pyarrow_says_which_extra_it_needs(tmp_path, monkeypatch):
    path = write(tmp_path, "a.parquet")
    monkeypatch.delitem(sys.modules, "model_store.items.parquet_files", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(TableError, match="needs the extra parquet"):
        open_table(path)
