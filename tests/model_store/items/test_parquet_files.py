"""Rows of parquet files."""

from __future__ import annotations

import os

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_store.items.parquet_files import ParquetTable, rows_of
from model_store.items.rows import TableError


def invalid(*cells):
    """A string column of arbitrary bytes, which parquet does not check."""
    return pa.Array.from_buffers(pa.string(), len(cells), pa.array(cells).buffers())


def test_chunks_have_the_requested_columns_and_rows(tmp_path):
    pq.write_table(pa.table({"a": [1, 2, 3], "b": ["x", None, "z"], "c": [b"1", b"2", b"3"]}), tmp_path / "a.parquet")

    table = ParquetTable(tmp_path / "a.parquet")

    assert (table.names, table.rows, table.binary, table.folder) == (["a", "b", "c"], 3, ["c"], tmp_path)
    assert [*table.chunks(["b", "a"], 2)] == [[{"a": 1, "b": "x"}, {"a": 2, "b": None}], [{"a": 3, "b": "z"}]]


def test_nested_bytes_make_a_column_binary(tmp_path):
    struct = pa.array([{"bytes": b"1", "path": None}])
    columns = {"a": pa.array([b"1"]), "b": struct, "c": pa.array([[b"1"]]), "d": pa.array(["1"]), "e": pa.array([1])}
    columns["f"] = pa.array([b"1"]).dictionary_encode()
    columns["g"] = pa.array([b"1"], pa.binary_view())
    columns["h"] = pa.array([[{"x": b"1"}]], pa.list_(pa.struct([("x", pa.binary_view())])))
    columns["i"] = pa.array([[("x", b"1")]], pa.map_(pa.string(), pa.binary_view()))
    columns["j"] = pa.ExtensionArray.from_storage(pa.opaque(pa.binary(), "kind", "vendor"), pa.array([b"1"]))
    columns["k"] = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)], pa.binary(16)))
    columns["l"] = pa.array(["1"], pa.string_view())
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")

    assert ParquetTable(tmp_path / "a.parquet").binary == ["a", "b", "c", "f", "g", "h", "i", "j"]


def test_text_that_is_not_utf8_keeps_its_bytes_or_is_replaced():
    cells = invalid(b"red", b"\xff")
    lists = pa.ListArray.from_arrays([0, 1, 2], cells)
    structs = pa.StructArray.from_arrays([cells], ["path"])
    table = pa.table({"text": cells, "words": cells.dictionary_encode(), "list": lists, "image": structs})

    kept, replaced = rows_of(table)[1], rows_of(table, invalid_text="replace")[1]

    assert os.fsencode(kept["text"]) == b"\xff"
    assert kept == {"text": "\udcff", "words": "\udcff", "list": ["\udcff"], "image": {"path": "\udcff"}}
    assert replaced == {"text": "\ufffd", "words": "\ufffd", "list": ["\ufffd"], "image": {"path": "\ufffd"}}


def test_nanoseconds_are_text():
    (row,) = rows_of(pa.table({"time": pa.array([10**9 + 5], pa.timestamp("ns"))}))

    assert str(row["time"]) == "1970-01-01 00:00:01.000000005"


def test_a_short_float_has_the_digits_that_it_was_written_with():
    cells = [0.1, 2.0, None, float("inf")]

    assert [row["x"] for row in rows_of(pa.table({"x": pa.array(cells, pa.float32())}))] == cells


def test_a_table_without_columns_has_empty_rows():
    assert rows_of(pa.table({"a": [1, 2]}).select([])) == [{}, {}]


def test_names_of_classes_come_from_the_file(tmp_path):
    kind = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"label": kind, "labels": datasets.List(kind), "text": datasets.Value("string")})
    rows = {"label": [1, -1], "labels": [[0], []], "text": ["a", "b"]}
    pq.write_table(datasets.Dataset.from_dict(rows, features).data.table, tmp_path / "a.parquet")

    table = ParquetTable(tmp_path / "a.parquet")

    assert table.class_names == {"label": ["cat", "dog"], "labels": ["cat", "dog"]}
    assert table.schema.metadata is None


@pytest.mark.parametrize("index", [pa.int8(), pa.int32()])
def test_a_dictionary_column_has_its_values(tmp_path, index):
    cells = pa.array(["cat", None, "dog", "cat"]).dictionary_encode().cast(pa.dictionary(index, pa.string()))
    lists = pa.ListArray.from_arrays([0, 1, 4], cells)
    pq.write_table(pa.table({"label": cells.slice(0, 2), "labels": lists}), tmp_path / "a.parquet")

    (rows,) = ParquetTable(tmp_path / "a.parquet").chunks(["label", "labels"], 5)

    assert rows == [{"label": "cat", "labels": ["cat"]}, {"label": None, "labels": [None, "dog", "cat"]}]


@pytest.mark.parametrize("metadata", [{b"huggingface": b"{"}, {b"huggingface": b"[]"}, {b"pandas": b"{}"}, {}])
def test_other_metadata_names_no_classes(tmp_path, metadata):
    pq.write_table(pa.table({"label": [1]}).replace_schema_metadata(metadata), tmp_path / "a.parquet")

    assert ParquetTable(tmp_path / "a.parquet").class_names == {}


def test_a_malformed_parquet_file_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), tmp_path / "b.parquet")

    with pytest.raises(TableError, match=r"a\.parquet cannot be read as parquet: .*; write it again"):
        ParquetTable(tmp_path / "a.parquet")
    with pytest.raises(TableError, match="has the column 'a' more than once"):
        ParquetTable(tmp_path / "b.parquet")


def test_a_file_damaged_between_two_reads_raises_an_error(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), path)
    table = ParquetTable(path)
    path.write_bytes(b"PAR1")

    with pytest.raises(TableError, match="cannot be read as parquet"):
        [*table.chunks(["a"], 10)]


def in_column(words: pa.Array, kind: str) -> pa.Array:
    """A column of this kind whose values are the words."""
    match kind:
        case "struct":
            return pa.StructArray.from_arrays([words], ["path"])
        case "list":
            return pa.ListArray.from_arrays([0, 1, 2], words)
        case "map":
            return pa.MapArray.from_arrays([0, 1, 2], pa.array(["a", "b"]), words)
    return words


@pytest.mark.parametrize("kind", ["plain", "struct", "list", "map"])
def test_a_number_outside_its_dictionary_is_refused_as_damage(tmp_path, kind, monkeypatch):
    words = pa.array(["red", "blue"]).dictionary_encode()
    pq.write_table(pa.table({"text": in_column(words, kind)}), tmp_path / "a.parquet")
    table = ParquetTable(tmp_path / "a.parquet")
    assert len(next(table.chunks(["text"], 10))) == 2

    for number in (2, -1):
        damaged = pa.DictionaryArray.from_arrays(pa.array([0, number], pa.int32()), words.dictionary, safe=False)
        batch = pa.RecordBatch.from_arrays([in_column(damaged, kind)], ["text"])
        monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, batch=batch, **__: iter([batch]))

        for read in (table.tables, table.chunks):
            with pytest.raises(TableError, match="cannot be read as parquet: it has a number outside its dictionary"):
                next(iter(read(["text"], 10)))


@pytest.mark.parametrize(
    ("cells", "kind", "is_empty"),
    [
        ([None, float("nan")], pa.float64(), True),
        ([None, None], pa.int64(), True),
        ([None, " "], pa.string_view(), True),
        ([None, 0], pa.int64(), False),
        ([float("nan"), 1.5], pa.float32(), False),
    ],
)
def test_a_column_of_missing_cells_is_empty_whatever_its_type(tmp_path, cells, kind, is_empty):
    pq.write_table(pa.table({"text": pa.array(cells, kind)}), tmp_path / "a.parquet")

    assert ParquetTable(tmp_path / "a.parquet").is_empty("text") is is_empty
