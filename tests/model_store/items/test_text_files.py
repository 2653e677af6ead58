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
        ("sep=;\n", "it is empty"),
        (" \n , \n", "it is empty"),
        ("a,b\n1,2\n3,\0\n", "line 3 has a null character, as text in UTF-16 has; save the file as UTF-8"),
        ("a\0,\0b\0", "line 1 has a null character"),
        ("SQLite format 3\0...", r"a\.csv is an SQLite database, not text in UTF-8"),
        ('a,b\n1,"x\ny"\n2\n', "line 4 has 1 cells, the header 2; give it a cell for each column"),
        ("a;b\n1;2;3\n", "line 2 has 3 cells, the header 2; .* put quotes around a cell that holds ';'"),
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
    ("first", "delimiter"),
    [("sep=;", ";"), ("SEP=,", ","), ("sep=\t", "\t"), ("sep=\\t", "\t"), ("sep=|", "|"), ('"sep=;"', ";")],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_first_line_may_declare_the_delimiter(folder, first, delimiter, end, mark):
    lines = [f"{mark}{first}", delimiter.join(["a", "b"]), delimiter.join(["1", '"2,;|\t"'])]
    (folder / "a.csv").write_text(end.join(lines), encoding="utf-8", newline="")

    assert [*csv_rows(folder / "a.csv")] == [{"a": "1", "b": "2,;|\t"}]


@pytest.mark.parametrize("header", ["\ufeff\ufeffa;b", "a\u200b; b", '"a";"\u2060b\u00a0"'])
def test_names_of_columns_have_no_invisible_characters(folder, header):
    (folder / "a.csv").write_text(f"{header}\n1;2\n", encoding="utf-8")

    assert [*csv_rows(folder / "a.csv")] == [{"a": "1", "b": "2"}]


def test_a_delimiter_within_a_quoted_name_is_part_of_the_name(folder):
    (folder / "a.csv").write_text('"a,b,c";d\n1;2\n')

    assert [*csv_rows(folder / "a.csv")] == [{"a,b,c": "1", "d": "2"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n", "\n\ufeff"])
def test_a_line_of_jsonl_ends_like_a_line_of_any_system(folder, end):
    rows = [{"a": "one\u2028\u2029\u0085\x0b\x0c\x1cline"}, {"a": None}, {"a": "x" * 200_000}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "a.jsonl").write_text(end.join(lines), encoding="utf-8", newline="")

    assert [*jsonl_rows(folder / "a.jsonl")] == rows


@pytest.mark.parametrize("line", ['{"a": 1, "b": 2, "a": 3}', '{"a": 1, "a": 1}', '{"c": {"a": 1, "a": null}}'])
def test_a_key_that_occurs_twice_is_refused(folder, line):
    (folder / "a.jsonl").write_text(f'{{"a": 0}}\n{line}\n')

    with pytest.raises(ValueError, match="line 2 has the key 'a' more than once; remove all but one"):
        [*jsonl_rows(folder / "a.jsonl")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_null_character_in_jsonl_is_named(folder, encoding):
    (folder / "a.jsonl").write_bytes('{"a": "\0"}\n'.encode(encoding))

    with pytest.raises(ValueError, match="line 1 has a null character, as text in UTF-16 has; save the file as UTF-8"):
        [*jsonl_rows(folder / "a.jsonl")]


def test_a_number_of_too_many_digits_is_named_so(folder):
    (folder / "a.jsonl").write_text(f'{{"a": 0}}\n{{"a": {"1" * 5000}}}\n')

    with pytest.raises(ValueError, match="line 2 has a number of too many digits; put it in quotes"):
        [*jsonl_rows(folder / "a.jsonl")]


@pytest.mark.parametrize(
    "line",
    [
        *("[", "[1]", '[["a", 1]]', '[{"a": 1}, {"a": 2}]'),
        *("null", "true", "5", '"text"', "NaN", "1" * 5000, "{", '{"a": 1} {"a": 2}', '{"a": 1},'),
    ],
)
def test_the_error_names_the_line_that_is_not_an_object(folder, line):
    (folder / "a.jsonl").write_text(f'{{"a": "\u2028\u0085"}}\n\n{line}\n', encoding="utf-8")

    with pytest.raises(
        ValueError, match=r"line 3 is not a JSON object; write one \{\.\.\.\} a line, without \[ \] around"
    ):
        [*jsonl_rows(folder / "a.jsonl")]


@pytest.mark.parametrize("value", ["[" * 40 + "]" * 40, '{"b":' * 900 + "1" + "}" * 900, "[" * 100_000 + "]" * 100_000])
def test_a_line_that_is_nested_too_deep_is_named(folder, value):
    (folder / "a.jsonl").write_text(f'{{"a": 1}}\n{{"a": {value}}}\n')

    with pytest.raises(ValueError, match="line 2 is nested more than 32 levels deep; write its values less deep"):
        [*jsonl_rows(folder / "a.jsonl")]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("a\tb, or c\td, or e, or f\n1\t2\t3\n", ["a", "b, or c", "d, or e, or f"]),
        ("a;b, or c;d, or e, or f\n1;2;3\n", ["a", "b, or c", "d, or e, or f"]),
        ("a,b; or c; or d; or e\n1,2\n", ["a", "b; or c; or d; or e"]),
        ('"a\nb";c;d\n1;2;3\n', ["a\nb", "c", "d"]),
        ('a;"b, c\nd, by e, or f";g\n1;2;3\n', ["a", "b, c\nd, by e, or f", "g"]),
        ('a;"b, c\nd, by e, or f";g\n1;"2, 3\n, 4";5\n', ["a", "b, c\nd, by e, or f", "g"]),
        ('a;"b,c,d"\n1;"2,3,4"\n', ["a", "b,c,d"]),
    ],
)
def test_the_delimiter_is_the_one_that_fits_the_records(folder, content, names):
    (folder / "a.csv").write_text(content)

    assert [[*row] for row in csv_rows(folder / "a.csv")] == [names]


def test_a_delimiter_with_which_the_first_record_fits_by_chance_is_not_taken(folder):
    (folder / "a.csv").write_text("title, or name, or id;label\nx, y, z;1\nv;2\n")

    assert [row["label"] for row in csv_rows(folder / "a.csv")] == ["1", "2"]


def test_a_file_of_one_column_is_not_read_with_the_delimiter_that_it_lacks(folder):
    (folder / "a.csv").write_text("text\nred, green\n")

    with pytest.raises(ValueError, match=r"line 2 has 2 cells, the header 1; .* quotes around a cell that holds ','"):
        [*csv_rows(folder / "a.csv")]


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_space_before_a_quote_is_named(folder, delimiter):
    (folder / "a.csv").write_text(delimiter.join("abc") + "\n" + f'1{delimiter} "2{delimiter}3"{delimiter} 4\n')

    with pytest.raises(ValueError, match="line 2 has 4 cells, the header 3; remove the space before a quote"):
        [*csv_rows(folder / "a.csv")]
