"""Errors of files that cannot be read."""

from __future__ import annotations

import pytest

from model_store.items.rows import TableError, check_unique, encoding_fault, table_errors


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"PK\x03\x04\x14", "is an Excel workbook, or another zip file; save it as CSV in UTF-8"),
        ("\ufefftext".encode("utf-16"), "is in UTF-16; save it as UTF-8"),
        ("text".encode("utf-16-be").join([b"\xfe\xff", b""]), "is in UTF-16; save it as UTF-8"),
        ("text".encode("utf-16-le"), "is in UTF-16; save it as UTF-8"),
        (b"one\rtwo\rthr\xffee\r", "is not UTF-8 in line 3; save it as UTF-8"),
        (b"one\r\ntwo\nthr\xffee\n", "is not UTF-8 in line 3; save it as UTF-8"),
        (b"whole", "was being written; try again"),
    ],
)
def test_the_fault_of_a_file_in_another_encoding(tmp_path, content, fault):
    (tmp_path / "a.csv").write_bytes(content)

    assert encoding_fault(tmp_path / "a.csv") == fault


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
