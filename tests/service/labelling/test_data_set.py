"""Files of a parquet data set, and the rows of their parts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.labelling.data_set import PartReader, read_input_file
from service.labelling.job import Part
from service.labelling.rows import DataSetError
from tests.support.made_data_set import label_data


def test_rows_come_from_where_the_part_says_in_any_order(tmp_path):
    ids = pa.table({"id": list(range(1000)), "more": ["x" * (row % 50) for row in range(1000)]})
    pq.write_table(ids, tmp_path / "a.parquet", row_group_size=400, data_page_size=100)
    file = read_input_file(tmp_path, "a.parquet")
    assert file.group_rows == (400, 400, 200)
    reader = PartReader(tmp_path, [file], pa.schema([("id", pa.int64()), ("none", pa.string())]))

    for group, start, rows in [
        (0, 0, 30),
        (0, 30, 30),
        (0, 390, 10),
        (1, 77, 30),
        (1, 10, 5),
        (2, 199, 1),
        (0, 3, 300),
    ]:
        table = reader.read(Part(0, "a.parquet", group, start, rows))
        assert table["id"].to_pylist() == list(range(400 * group + start, 400 * group + start + rows))
        assert table["none"].null_count == rows


def test_what_cannot_be_a_data_set_or_an_output_is_refused(tmp_path, shelf, pixels):
    shelf.publish("fruit")
    store = shelf.store.root
    (tmp_path / "in").mkdir()
    with pytest.raises(DataSetError, match="neither a parquet file nor a folder"):
        label_data(tmp_path / "in", tmp_path / "out", store)
    (tmp_path / "in" / "a.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(DataSetError, match=r"a\.parquet cannot be read as parquet"):
        label_data(tmp_path / "in", tmp_path / "out", store)
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "in" / "a.parquet")
    with pytest.raises(DataSetError, match="has no rows"):
        label_data(tmp_path / "in", tmp_path / "out", store)
    pq.write_table(pa.table({"title": ["red"]}), tmp_path / "in" / "a.parquet")
    with pytest.raises(DataSetError, match=r"neither a column image nor text.*it has title"):
        label_data(tmp_path / "in", tmp_path / "out", store)
    pq.write_table(pa.table({"text": ["red"], "error": ["mine"]}), tmp_path / "in" / "a.parquet")
    with pytest.raises(DataSetError, match="the output has a column error of its own"):
        label_data(tmp_path / "in", tmp_path / "out", store)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(DataSetError, match=r"has notes\.txt and no _job\.json"):
        label_data(tmp_path / "in", tmp_path / "out", store, keep=("text",))
