"""Tables of every kind."""

from __future__ import annotations

import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_store.items.rows import TableError
from model_store.items.tables import open_table


def write(folder, name):
    """Two rows of the columns a and b, the second without b."""
    contents = {"a.CSV": "a,b\n1,2\n3,\n", "a.JSONL": '{"a": "1", "b": "2"}\n{"a": "3"}\n'}
    if name in contents:
        (folder / name).write_text(contents[name])
    else:
        pq.write_table(pa.table({"a": ["1", "3"], "b": ["2", None]}), folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["a.CSV", "a.JSONL", "a.PARQUET"])
def test_names_and_rows_are_known_before_rows_are_read(tmp_path, name):
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


def test_empty_columns_at_the_end_of_a_spreadsheet_are_left_out(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,,\n1,2,,\n")

    table = open_table(tmp_path / "a.csv")

    assert table.names == ["a", "b"]
    assert [*table.chunks(table.names, 5)] == [[{"a": "1", "b": "2"}]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "a,b,a\n", "has the column 'a' more than once; rename all but one"),
        ("a.csv", "a,b\n1\n", "cannot be read as csv: line 2 has 1 cells, the header 2"),
        ("a.jsonl", "[]\n", "cannot be read as jsonl: line 1 is not a JSON object"),
        ("a.txt", "a", r"neither a folder of pictures nor a \.csv, \.jsonl, \.parquet file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_when_it_is_opened(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)

    with pytest.raises(TableError, match=message):
        open_table(tmp_path / name)


def test_what_is_no_regular_file_is_not_read(tmp_path):
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
