"""Checks of the options and of the input before a bulk job begins."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.errors import ServiceError
from service.labelling.rows import DataSetError
from tests.support.closed_service import publish_label_sets
from tests.support.made_data_set import label_data, planned


def test_an_unusable_input_or_output_is_refused(tmp_path, shelf, pixels):
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


def test_an_input_of_another_format_leads_to_the_command_that_reads_it(tmp_path):
    (tmp_path / "shop.csv").write_text("text\nred\n")
    with pytest.raises(DataSetError, match=r"shop\.csv cannot be read as parquet.*`mora-serve classify` also csv"):
        label_data(tmp_path / "shop.csv", tmp_path / "out", tmp_path)


@pytest.mark.parametrize(
    ("task", "coverage", "detail"), [("older", 0.5, "no label sets"), ("tags", 0.9, "at most 0.8")]
)
def test_a_coverage_that_no_row_can_have_is_refused_before_the_job(tmp_path, shelf, task, coverage, detail):
    publish_label_sets(shelf)
    pq.write_table(pa.table({"text": ["red"]}), tmp_path / "in.parquet")

    with pytest.raises(ServiceError, match=detail):
        planned(tmp_path / "in.parquet", tmp_path / "out", shelf.store.root, task=task, coverage=coverage)
