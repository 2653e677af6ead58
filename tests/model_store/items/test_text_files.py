"""Rows of csv and jsonl files."""

from __future__ import annotations

import csv
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.items.text_files import csv_rows, jsonl_rows

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(TEXT, TEXT)),
    delimiter=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.sampled_from(["", "\ufeff"]),
)
def test_csv_is_read_as_it_was_written(folder, rows, delimiter, end, mark):
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(mark)
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerows([("one", " two "), *rows])

    assert [*csv_rows(folder / "a.csv")] == [{"one": one, "two": two} for one, two in rows]


@settings(deadline=None)
@given(rows=st.lists(st.dictionaries(TEXT, TEXT | st.integers() | st.none())), mark=st.sampled_from(["", "\ufeff"]))
def test_jsonl_is_read_as_it_was_written(folder, rows, mark):
    lines = [mark, *(json.dumps(row, ensure_ascii=False) + "\r\n \n" for row in rows)]
    (folder / "a.jsonl").write_text("".join(lines), encoding="utf-8", newline="")

    assert [*jsonl_rows(folder / "a.jsonl")] == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it is empty; its first line must name the columns"),
        ("\n\n", "it is empty"),
        ('a,b\n1,"x\ny"\n2\n', "line 4 has 1 cells, the header 2; put quotes around a cell that holds ','"),
        ('a;b\n1;2\n"3;4\n5;6\n', "line 3: unexpected end of data; close each quote that is opened"),
        ('a,b\n"1"2,3\n', "line 2: .* expected after"),
    ],
)
def test_a_csv_error_names_the_line_that_the_record_begins_in(folder, content, message):
    (folder / "a.csv").write_text(content)

    with pytest.raises(ValueError, match=message):
        [*csv_rows(folder / "a.csv")]


def test_a_long_cell_and_leading_blank_lines_are_read(folder):
    (folder / "a.csv").write_text("\n\na;b\n" + "x" * 200_000 + ";y\n")

    assert [*csv_rows(folder / "a.csv")] == [{"a": "x" * 200_000, "b": "y"}]


@pytest.mark.parametrize(
    "line", ["[1]", '[["a", 1]]', '"text"', "{", "NaN", "1" * 5000, "[" * 100_000, '{"a": 1} {"a": 2}']
)
def test_the_error_names_the_line_that_is_not_an_object(folder, line):
    (folder / "a.jsonl").write_text(f'{{"a": "\u2028\u0085"}}\n\n{line}\n', encoding="utf-8")

    with pytest.raises(ValueError, match="line 3 is not a JSON object"):
        [*jsonl_rows(folder / "a.jsonl")]
