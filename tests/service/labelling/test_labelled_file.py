"""Rows of files and folders as `mora-serve classify` reads them."""

from __future__ import annotations

import datetime
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_store.items.rows import TableError
from service.errors import Code
from service.labelling.labelled_file import chunks_of, open_source
from service.labelling.rows import Columns, DataSetError, Limits
from service.labelling.writers import plain_rows
from service.settings import Settings

LIMITS = Limits.of(Settings())


def rows_of(source, image=None, text="text", keep=(), size=2):
    """The text or the error code of every row, and its kept columns."""
    chunks = list(chunks_of(source, Columns(image, text, tuple(keep)), LIMITS, size))
    items = [getattr(item, "text", getattr(item, "code", None)) for chunk in chunks for item in chunk.items]
    return items, [row for chunk in chunks for row in plain_rows(chunk.kept)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_csv_file_may_have_any_delimiter_and_a_byte_order_mark(tmp_path, delimiter, start):
    lines = ["id, text ", "01,red", "", '02,"a, ""green"" apple"', "03,", '04,"two\nlines"']
    content = start + "\r\n".join(line.replace(",", delimiter) for line in lines)
    (tmp_path / "a.csv").write_text(content, encoding="utf-8", newline="")

    source = open_source(tmp_path / "a.csv")

    assert (source.names, source.rows) == (["id", "text"], 4)
    texts, kept = rows_of(source, keep=["id"])
    assert texts == ["red", f'a{delimiter} "green" apple', Code.MISSING_INPUT, "two\nlines"]
    assert kept == [{"id": f"0{number}"} for number in range(1, 5)]


def test_a_column_of_json_lines_may_be_missing_from_any_row(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n\n{"text": "red \u2028"}\n', encoding="utf-8")

    source = open_source(tmp_path / "a.jsonl")

    assert (source.names, source.rows) == (["id", "text"], 2)
    assert rows_of(source, keep=["id"]) == ([Code.MISSING_INPUT, "red \u2028"], [{"id": 1}, {"id": None}])


def test_a_folder_gives_only_its_pictures_sorted_by_path(tmp_path):
    for name in ("b.PNG", "a/c.jpg", "a.webp", ".thumbs/d.png", "notes.txt", ".e.png", "a/.f.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())

    source = open_source(tmp_path)

    (chunk,) = chunks_of(source, Columns("image", None, ("image",)), LIMITS, 10)
    assert [row["image"] for row in plain_rows(chunk.kept)] == ["a/c.jpg", "a.webp", "b.PNG"] == chunk.names
    assert [item.image for item in chunk.items] == [b"a/c.jpg", b"a.webp", b"b.PNG"]


def test_pictures_are_read_with_their_chunk(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"picture")
    chunks = chunks_of(open_source(tmp_path), Columns("image", None, ()), LIMITS, 1)

    (first,) = next(chunks).items
    (tmp_path / "b.png").unlink()
    (second,) = next(chunks).items

    assert (first.image, second.code) == (b"picture", Code.NOT_FOUND)


def test_invalid_strings_and_times_of_parquet_can_be_written_as_text(tmp_path):
    strings = pa.Array.from_buffers(pa.string(), 2, pa.array([b"red", b"\xff"]).buffers())
    times = pa.array([1, 10**9 + 5], pa.timestamp("ns"))
    days = pa.array([datetime.date(2026, 1, 2), None])
    pq.write_table(pa.table({"text": strings, "time": times, "day": days}), tmp_path / "a.parquet")

    texts, kept = rows_of(open_source(tmp_path / "a.parquet"), keep=["text", "time", "day"])

    assert texts == ["red", Code.BAD_TEXT]
    assert [row["text"] for row in kept] == ["red", "\ufffd"]
    assert [str(row["time"])[-9:] for row in kept] == ["000000001", "000000005"]
    assert kept[0]["day"] == datetime.date(2026, 1, 2)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.csv", "id,text\n1,red\n2,a, b\n", "line 3 has 3 cells, the header 2"),
        ("a.csv", 'text\n"red\n', "line 2: unexpected end of data"),
        ("a.csv", b"text\n\xff\n", "is not UTF-8 in line 2; save it as UTF-8"),
        ("a.csv", "text,text\n1,2\n", "the column 'text' more than once"),
        ("a.csv", "text\n", "has no rows"),
        ("a.csv", "", "is empty; its first line must name the columns"),
        ("a.jsonl", '{"text": "red"}\n[1]\n', "line 2 is not a JSON object"),
        ("a.jsonl", b'{"text": "\xff"}\n', "is not UTF-8 in line 1; save it as UTF-8"),
        ("a.jsonl", "[" * 100_000, "line 1 is nested more than 32 levels deep"),
        ("a.parquet", b"PAR1", "cannot be read as parquet"),
        ("a.txt", "red", r"neither a folder of pictures nor a \.csv, \.jsonl, \.parquet file"),
        ("in/notes.txt", "red", r"has no pictures; left out of .*in: files that are no pictures \(1\): notes\.txt"),
        ("in/a.parquet", b"", "a folder of parquet files is for mora-serve bulk"),
    ],
)
def test_opening_an_unusable_input_raises_an_error(tmp_path, name, content, complaint):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises((DataSetError, TableError), match=complaint):
        open_source(tmp_path / name.split("/")[0])


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.csv")

    with pytest.raises(TableError, match="has to be a plain file"):
        open_source(tmp_path / "a.csv")


def test_a_file_damaged_between_two_chunks_raises_an_error(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "red"}\n' * 10_000)
    chunks = chunks_of(open_source(file), Columns(None, "text", ()), LIMITS, 10)
    next(chunks)
    file.write_text(json.dumps([1]) * 100_000)

    with pytest.raises(DataSetError, match="has changed since it was checked"):
        list(chunks)
