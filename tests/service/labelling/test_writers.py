"""Rows of the output in each format."""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import date
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import service.labelling.parquet
from service.api.answers import Answer
from service.errors import Code, ServiceError
from service.labelling.labelled_file import open_source
from service.labelling.parquet import answer_schema
from service.labelling.rows import COLUMNS, SET_COLUMNS, Columns, DataSetError, answer_columns, answer_row
from service.labelling.writers import open_output
from tests.support.faulty_service import ANSWER

FAILED = answer_row(ServiceError(Code.BAD_TEXT, "Why."), 3)


def written(tmp_path, kind, rows):
    """The output of these rows, each with an error."""
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source, output = open_source(tmp_path / "in.jsonl"), tmp_path / f"out{kind}"
    with open_output(output, source, Columns(None, None, tuple(source.names))) as write:
        for row in rows:
            write([{name: row.get(name) for name in source.names}], [FAILED])
    return output.read_bytes()


def test_a_parquet_column_gets_the_type_of_all_its_values(tmp_path, monkeypatch):
    monkeypatch.setattr(service.labelling.parquet, "CHUNK_ROWS", 1)
    rows = [{"a": None, "b": 1, "c": None}, {"b": 2.5, "c": ["x"]}, {"a": "s", "d": {"e": True}}]

    table = pq.read_table(BytesIO(written(tmp_path, ".parquet", rows)))

    kinds = [pa.string(), pa.float64(), pa.list_(pa.string()), pa.struct([("e", pa.bool_())])]
    assert table.schema.types[:4] == kinds
    assert [{name: row[name] for name in "abcd"} for row in table.to_pylist()] == [
        {"a": None, "b": 1.0, "c": None, "d": None},
        {"a": None, "b": 2.5, "c": ["x"], "d": None},
        {"a": "s", "b": None, "c": None, "d": {"e": True}},
    ]
    assert pa.schema(list(table.schema)[4:]) == answer_schema(COLUMNS)


@pytest.mark.parametrize(
    "values",
    [[1, "s"], [10**30, 1], ["\ud800", "s"], [{"\ud800": 1}, None], [{}, {}], [[{"b": [{}]}], None], [2**60 + 1, 1.5]],
)
@pytest.mark.parametrize("chunk_rows", [1, 1000])
def test_a_column_that_parquet_cannot_hold_is_refused_before_any_row_is_written(
    tmp_path, monkeypatch, values, chunk_rows
):
    monkeypatch.setattr(service.labelling.parquet, "CHUNK_ROWS", chunk_rows)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"a": value}) + "\n" for value in values))
    source = open_source(tmp_path / "in.jsonl")

    with (
        pytest.raises(DataSetError, match=r"write \.jsonl, or leave the column out with --keep"),
        open_output(tmp_path / "out.parquet", source, Columns(None, None, ("a",))),
    ):
        pass


def test_a_name_that_parquet_cannot_hold_is_refused(tmp_path):
    with pytest.raises(DataSetError, match=r"write \.jsonl, or leave the column out with --keep"):
        written(tmp_path, ".parquet", [{"\ud800": 1}])


def test_csv_and_json_lines_hold_the_values_of_the_input(tmp_path):
    row = {
        "list": ["x", "y"],
        "bars": ["x|y", "z"],
        "deep": [[1]],
        "text": 'a "b",\nc|',
        "half": "\ud800",
        "not": math.nan,
        "none": None,
    }

    (line,) = (json.loads(line) for line in written(tmp_path, ".jsonl", [row]).splitlines())
    (cells,) = csv.DictReader(io.StringIO(written(tmp_path, ".csv", [row]).decode(), newline=""))

    assert line == {**row, "not": None, **FAILED}
    assert list(cells) == [*row, *COLUMNS]
    assert {name: cells[name] for name in row} == {
        "list": "x|y",
        "bars": '["x|y", "z"]',
        "deep": "[[1]]",
        "text": 'a "b",\nc|',
        "half": "?",
        "not": "nan",
        "none": "",
    }
    assert (cells["error"], cells["detail"], cells["top_labels"]) == ("bad_text", "Why.", "")


@pytest.mark.parametrize("labels", [[], ["apple"], ["apple", "pear"]])
def test_each_format_holds_label_sets(tmp_path, labels):
    columns = answer_columns(0.9)
    answer = Answer.model_validate({**ANSWER, "label_set": {"labels": labels, "coverage": 0.9, "review": not labels}})
    rows = [answer_row(each, 3, columns) for each in (answer, ServiceError(Code.COVERAGE_UNSUPPORTED, "Why."))]
    (tmp_path / "in.csv").write_text("id\n1\n2\n")
    outputs = {kind: tmp_path / f"out{kind}" for kind in (".jsonl", ".csv", ".parquet")}
    for output in outputs.values():
        with open_output(output, open_source(tmp_path / "in.csv"), Columns(None, None, ("id",), columns)) as write:
            write([{"id": "1"}, {"id": "2"}], rows)

    lines = [json.loads(line) for line in outputs[".jsonl"].read_text().splitlines()]
    cells = list(csv.DictReader(io.StringIO(outputs[".csv"].read_text())))
    table = pq.read_table(outputs[".parquet"])
    assert [list(each) for each in (lines[0], cells[0])] == 2 * [["id", *COLUMNS, *SET_COLUMNS]]
    assert [(row["label_set"], row["review"]) for row in lines] == [(labels, not labels), (None, None)]
    assert [(row["label_set"], row["review"]) for row in cells] == [("|".join(labels), str(not labels)), ("", "")]
    assert table.to_pylist() == lines
    assert table.schema.types[-2:] == [pa.list_(pa.string()), pa.bool_()]


def test_a_csv_cell_holds_a_map_as_json(tmp_path):
    (tmp_path / "in.csv").write_text("id\n1\n")
    with open_output(tmp_path / "out.csv", open_source(tmp_path / "in.csv"), Columns(None, None, ("map",))) as write:
        write([{"map": [("x", 1)]}], [FAILED])

    (cells,) = csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text()))
    assert cells["map"] == '[["x", 1]]'


def test_json_lines_hold_a_date_as_text(capfdbinary):
    with open_output(None, None, Columns(None, None, ("day",))) as write:
        write([{"day": date(2026, 1, 2)}], [FAILED])

    assert json.loads(capfdbinary.readouterr().out)["day"] == "2026-01-02"
