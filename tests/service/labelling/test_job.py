"""A job resumes only with the same input, version and options."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.labelling.job import JOB_FILE, locked, read_job, resume
from service.labelling.rows import SET_COLUMNS, DataSetError
from tests.support.made_data_set import label_data, planned, write_data_set


def test_a_resumed_job_keeps_its_version(tmp_path, shelf, pixels):
    shelf.publish("fruit")
    write_data_set(tmp_path / "in", pixels)
    arguments = tmp_path / "in", tmp_path / "out", shelf.store.root
    resume(planned(*arguments).job, tmp_path / "out")
    shelf.publish("fruit", seed=2)

    job = planned(*arguments).job

    assert job.version == 1
    assert resume(job, tmp_path / "out") == job.parts()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"version": 2}, "version was 1, now 2"),
        ({"task": "tags"}, "task was fruit, now tags"),
        ({"part_rows": 5}, "part_rows was 1000, now 5"),
        ({"keep": ("id",)}, "keep was .*, now"),
        ({"text_column": "id2"}, "no column id2"),
        ({"image_column": "id"}, "the column id is int64; an image column holds"),
        ({"keep": ("nothing",)}, "no column nothing to keep"),
        ({"version": 9}, "no version 9"),
    ],
)
def test_a_job_does_not_resume_with_other_options(options, complaint, tmp_path, shelf, pixels):
    for seed in (1, 2):
        shelf.publish("fruit", seed)
        shelf.publish("tags", seed)
    write_data_set(tmp_path / "in", pixels)
    label_data(tmp_path / "in", tmp_path / "out", shelf.store.root, task="fruit", version=1)
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    with pytest.raises(Exception, match=complaint):
        label_data(tmp_path / "in", tmp_path / "out", shelf.store.root, **{"version": 1, "task": "fruit", **options})

    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize(("began", "given"), [(0.9, None), (0.9, 0.9), (None, None), (0.5, None)])
def test_a_resumed_job_keeps_its_coverage(began, given, tmp_path, shelf, pixels):
    shelf.publish_with_label_sets("fruit")
    write_data_set(tmp_path / "in", pixels)
    arguments = tmp_path / "in", tmp_path / "out", shelf.store.root
    resume(planned(*arguments, coverage=began).job, tmp_path / "out")

    label_data(*arguments, coverage=given)

    found = pq.read_table(tmp_path / "out").column_names
    assert [name for name in found if name in SET_COLUMNS] == ([] if began is None else list(SET_COLUMNS))
    assert read_job(tmp_path / "out").coverage == began


@pytest.mark.parametrize(("began", "given"), [(0.9, 0.8), (None, 0.9), (0.5, 0.95)])
def test_a_job_does_not_resume_with_another_coverage(began, given, tmp_path, shelf, pixels):
    shelf.publish_with_label_sets("fruit")
    write_data_set(tmp_path / "in", pixels)
    arguments = tmp_path / "in", tmp_path / "out", shelf.store.root
    resume(planned(*arguments, coverage=began).job, tmp_path / "out")

    with pytest.raises(DataSetError, match=f"coverage was {began}, now {given}"):
        label_data(*arguments, coverage=given)


def test_a_job_of_an_earlier_release_resumes_without_label_sets(tmp_path, shelf, pixels):
    shelf.publish_with_label_sets("fruit")
    write_data_set(tmp_path / "in", pixels)
    arguments = tmp_path / "in", tmp_path / "out", shelf.store.root
    job = planned(*arguments).job
    (tmp_path / "out" / JOB_FILE).write_text(job.model_dump_json(exclude={"coverage"}))

    label_data(*arguments)

    assert pq.read_table(tmp_path / "out").num_rows == 62


@pytest.mark.parametrize("change", ["has changed", "is gone", "is new"])
def test_a_job_does_not_resume_with_another_input(change, tmp_path, shelf, pixels):
    shelf.publish("fruit")
    write_data_set(tmp_path / "in", pixels)
    label_data(tmp_path / "in", tmp_path / "out", shelf.store.root)
    second = tmp_path / "in" / "more" / "b.parquet"
    match change:
        case "has changed":
            table = pq.read_table(second)
            pq.write_table(table.set_column(0, "id", pa.array([100, 102])), second)
        case "is gone":
            second.unlink()
        case _:
            second.with_name("c.parquet").write_bytes(second.read_bytes())

    with pytest.raises(DataSetError, match=f"input's more/[bc].parquet {change}"):
        label_data(tmp_path / "in", tmp_path / "out", shelf.store.root)


def test_another_version_of_the_same_number_is_refused(tmp_path, shelf, pixels):
    shelf.publish("fruit")
    write_data_set(tmp_path / "in", pixels)
    job = planned(tmp_path / "in", tmp_path / "out", shelf.store.root).job
    resume(job, tmp_path / "out")

    with pytest.raises(DataSetError, match="fruit version 1 had another manifest"):
        resume(job.model_copy(update={"manifest_sha256": "0" * 64}), tmp_path / "out")


def test_only_one_process_writes_to_an_output(tmp_path):
    with locked(tmp_path), pytest.raises(DataSetError, match="another process is writing to"), locked(tmp_path):
        pass
    with locked(tmp_path):  # a process that has ended holds no lock
        pass
