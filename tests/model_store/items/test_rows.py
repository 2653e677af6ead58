"""Errors of files that cannot be read."""

from __future__ import annotations

import gzip

import pytest

from model_store.items.rows import TableError, check_unique, column_named, encoding_fault, table_errors


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"PK\x03\x04\x14", "is an Excel workbook, or another zip file; save it as CSV in UTF-8"),
        ("\ufefftext".encode("utf-16"), "is in UTF-16; save it as UTF-8"),
        ("text".encode("utf-16-be").join([b"\xfe\xff", b""]), "is in UTF-16; save it as UTF-8"),
        ("text".encode("utf-16-le"), "is in UTF-16; save it as UTF-8"),
        ("text,label".encode("utf-16-be"), "is in UTF-16; save it as UTF-8"),
        (gzip.compress(b"text,label\n", mtime=0), "is a gzip archive, not text in UTF-8; unpack or convert it"),
        (b"PAR1\x15\x04\x15\xff", "is a parquet file, not text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", "is a PNG picture, not text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(9), "is an Office file in the format before 2007, not text"),
        (b"\x01\x02\0\xff\x03", "is a binary file; name a file of text in UTF-8"),
        (bytes(9), "is a binary file"),
        (b"\xff", "is not UTF-8 in line 1"),
        (b"one\rtwo\rthr\xffee\r", "is not UTF-8 in line 3; save it as UTF-8"),
        (b"one\r\ntwo\nthr\xffee\n", "is not UTF-8 in line 3; save it as UTF-8"),
        (b"whole", "was being written; try again"),
    ],
)
def test_the_fault_of_a_file_in_another_encoding(tmp_path, content, fault):
    (tmp_path / "a.csv").write_bytes(content)

    assert encoding_fault(tmp_path / "a.csv").startswith(fault)


def test_an_error_names_the_file_once(tmp_path):
    path = tmp_path / "a.csv"

    with pytest.raises(TableError) as missing, table_errors(path):
        path.read_bytes()
    with pytest.raises(TableError) as wrong, table_errors(path):
        raise ValueError("line 3 is wrong")

    assert str(missing.value).startswith(f"{path} cannot be read as csv: No such file or directory; correct the path")
    assert str(wrong.value) == f"{path} cannot be read as csv: line 3 is wrong"


def test_a_duplicate_column_name_is_refused(tmp_path):
    check_unique(tmp_path, ["a", "b"])
    with pytest.raises(TableError, match="has the column 'a' more than once; rename all but one"):
        check_unique(tmp_path, ["a", "b", "a"])
    with pytest.raises(TableError, match="has several columns without a name; name these columns, or delete them"):
        check_unique(tmp_path, ["", "a", ""])


@pytest.mark.parametrize(
    ("names", "name", "column"),
    [
        (["a", "b"], "a", "a"),
        (["a", " a"], "a", "a"),
        ([" a"], "a", " a"),
        (["a\u200b"], " a", "a\u200b"),
        (["cafe\u0301"], "caf\u00e9", "cafe\u0301"),
        ([" a", "a "], "a", None),
        (["A", "aa"], "a", None),
    ],
)
def test_a_column_is_found_by_its_name_or_by_how_it_looks(names, name, column):
    assert column_named(names, name) == column
