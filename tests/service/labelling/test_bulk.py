"""`mora-serve bulk` gives every row the answer of the service."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from service.errors import ServiceError
from service.labelling.bulk import PartLabeller, PartReader, label_data_set
from service.labelling.job import Part
from service.labelling.planning import BulkOptions, read_input_file
from service.labelling.rows import COLUMNS, SET_COLUMNS, DataSetError
from service.settings import Settings
from tests.support.closed_service import publish_label_sets
from tests.support.made_data_set import label_data, label_here, planned, write_data_set

ROOT = Path(__file__).parents[3]


def asked_one_by_one(client, rows, task="fruit"):
    """The answer of `POST /classify` to each row, in the form of the output."""
    return [{"id": row["id"], **_asked(client, row, task)} for row in rows]


def _asked(client, row, task):
    if "error" in row:
        return {"error": row["error"]}
    image = None if row["image"] is None else base64.b64encode(row["image"]).decode()
    body = client.post("/classify", json={"task": task, "image": image, "text": row["text"], "top_k": 99}).json()
    if "code" in body:
        return {"error": body["code"]}
    return {
        "error": None,
        "predicted_label": body["labels"][0]["label"],
        "selected_labels": [label["label"] for label in body["labels"] if label["selected"]],
        "scores": {label["label"]: pytest.approx(label["score"], abs=1e-6) for label in body["labels"]},
        "modalities": body["modalities"],
    }


def written(output):
    """The output's rows in the same form."""
    return [{"id": row["id"], **_written(row)} for row in pq.read_table(output).to_pylist()]


def _written(row):
    if row["error"] is not None:
        own = row.keys() - {"id", "image", "text", "error", "detail"}
        assert {row[name] for name in own} == {None}
        assert row["detail"].endswith(".")
        return {"error": row["error"]}
    assert row["predicted_score"] == row["top_scores"][0] == max(row["top_scores"])
    return {
        "error": None,
        "predicted_label": row["predicted_label"],
        "selected_labels": row["selected_labels"],
        "scores": dict(zip(row["top_labels"], row["top_scores"], strict=True)),
        "modalities": row["modalities"],
    }


@pytest.mark.parametrize("form", ["bytes", "struct", "path"])
@pytest.mark.parametrize("task", ["fruit", "tags"])
@pytest.mark.slow
def test_every_row_is_answered_as_by_the_service(form, task, tmp_path, shelf, serve, pixels):
    shelf.publish(task)
    rows = write_data_set(tmp_path / "in", pixels, form)

    label_data(tmp_path / "in", tmp_path / "out", shelf.store.root, top_k=99, part_rows=7, keep=("id",))

    expected = asked_one_by_one(serve(shelf.store), rows, task)
    assert written(tmp_path / "out") == expected
    found = {row["error"] for row in expected}
    assert {None, "image_undecodable", "image_format", "missing_input", "bad_text"} <= found
    assert ("not_found" in found) == (form != "bytes")


def test_the_columns_are_the_inputs_and_the_answers(tmp_path, shelf, pixels):
    shelf.publish("tags")
    write_data_set(tmp_path / "in", pixels)

    done = label_data(tmp_path / "in", tmp_path / "out", shelf.store.root, top_k=1)

    table = pq.read_table(tmp_path / "out")
    assert table.column_names[:4] == ["id", "image", "text", "predicted_label"]
    answered = [row for row in table.drop_columns(["text"]).to_pylist() if row["error"] is None]
    assert {len(row["top_labels"]) for row in answered} == {1}
    assert max(len(row["selected_labels"]) for row in answered) > 1
    assert sum(part.rows for part in done) == table.num_rows == 62
    assert sum(part.failed for part in done) == 62 - len(answered) > 0


def test_columns_that_only_names_of_folders_hold_are_named(tmp_path, shelf):
    shelf.publish("fruit")
    for folder in ("year=2025/k=1", "year=2026/k=2"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        pq.write_table(pa.table({"text": ["red"], "k": [1]}), tmp_path / "in" / folder / "a.parquet")
    note = "the output lacks year, which only names of folders hold: write them into the files"

    for keep, is_noted in ((None, True), (("text",), False)):
        options = BulkOptions(tmp_path / "in", tmp_path / f"out-{is_noted}", task="fruit", keep=keep)
        messages = io.StringIO()
        settings = Settings(store=shelf.store.root)
        label_data_set(options, settings, label_here, Console(file=messages))

        assert (note in messages.getvalue()) is is_noted


@pytest.mark.parametrize("options", [{"task": "gone"}, {"coverage": 0.9}, {"source": "empty"}])
def test_a_refused_job_leaves_no_folder(tmp_path, shelf, options):
    shelf.publish("fruit")
    (tmp_path / "in").mkdir()
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"text": ["red"]}), tmp_path / "in" / "a.parquet")
    source = tmp_path / options.pop("source", "in")

    with pytest.raises((DataSetError, ServiceError)):
        label_data_set(
            BulkOptions(source, tmp_path / "new" / "out", **options),
            Settings(store=shelf.store.root),
            label_here,
            Console(quiet=True),
        )

    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("task", "coverage"), [("fruit", 0.5), ("fruit", 0.8), ("fruit", 0.99), ("tags", 0.5), ("tags", 0.8)]
)
@pytest.mark.slow
def test_label_sets_are_those_of_the_service(task, coverage, tmp_path, shelf, serve, pixels):
    """`tags` supports no pictures and at most 0.8."""
    publish_label_sets(shelf)
    rows = write_data_set(tmp_path / "in", pixels)

    options = {"task": task, "coverage": coverage, "keep": ("id",), "part_rows": 25}
    label_data(tmp_path / "in", tmp_path / "out", shelf.store.root, **options)

    client = serve(shelf.store)
    answered = pq.read_table(tmp_path / "out").to_pylist()
    for row, found in zip(rows, answered, strict=True):
        if "error" in row:
            assert (found["error"], found["label_set"], found["review"]) == (row["error"], None, None)
            continue
        image = None if row["image"] is None else base64.b64encode(row["image"]).decode()
        fields = {"task": task, "image": image, "text": row["text"], "coverage": coverage}
        asked = client.post("/classify", json=fields).json()
        assert found["error"] == asked.get("code")
        assert found["detail"] == asked.get("detail")
        expected = asked.get("label_set", {"labels": None, "review": None})
        assert (found["label_set"], found["review"]) == (expected["labels"], expected["review"])
    errors = {row["error"] for row in answered}
    assert ("coverage_unsupported" in errors) is (task == "tags")
    assert None in errors


def test_only_the_row_of_a_too_large_image_fails(tmp_path, shelf, monkeypatch, picture):
    shelf.publish("fruit")
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"image": [picture, picture + bytes(1000)]}), tmp_path / "in" / "a.parquet")
    monkeypatch.setenv("MORA_MAX_BODY_BYTES", str(len(picture) + 10))

    label_data(tmp_path / "in" / "a.parquet", tmp_path / "out", shelf.store.root, keep=())

    assert pq.read_table(tmp_path / "out")["error"].to_pylist() == [None, "body_too_large"]


def test_a_path_to_a_pipe_is_not_read(tmp_path, shelf):
    shelf.publish("fruit")
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "pipe.png")
    pq.write_table(pa.table({"image": ["pipe.png", "null\0.png"]}), tmp_path / "in" / "a.parquet")

    label_data(tmp_path / "in", tmp_path / "out", shelf.store.root)

    assert pq.read_table(tmp_path / "out")["error"].to_pylist() == ["not_found", "not_found"]


def test_files_of_the_input_that_are_not_read_are_named(tmp_path, shelf, pixels):
    shelf.publish("fruit")
    source = tmp_path / "in"
    write_data_set(source, pixels)
    (source / "more" / "b.parquet").rename(source / "more" / "b.PARQUET")
    for name in ("more/part-0", "shop.csv", "_SUCCESS", ".a.parquet.crc"):
        (source / name).write_bytes(b"PAR1")
    options = BulkOptions(source, tmp_path / "out", task="fruit")
    said = Console(file=io.StringIO(), width=80)

    counts = label_data_set(options, Settings(store=shelf.store.root), label_here, said)

    assert counts.rows == 62
    assert said.file.getvalue().splitlines() == [
        f"left out of {source}: hidden files (2): .a.parquet.crc, _SUCCESS",
        f"left out of {source}: files without the suffix .parquet (2): shop.csv, more/part-0",
    ]


@pytest.mark.parametrize(("on_disk", "cell"), [("e\u0301", "\u00e9"), ("\u00fc", "u\u0308"), ("a", "a\u200b")])
def test_a_path_that_looks_like_a_file_leads_to_it(tmp_path, shelf, picture, on_disk, cell):
    shelf.publish("fruit")
    (tmp_path / "in" / on_disk).mkdir(parents=True)
    (tmp_path / "in" / on_disk / f"{on_disk}.png").write_bytes(picture)
    images = [f"{cell}/{cell}.png", "\u200b", "\u3000"]
    pq.write_table(pa.table({"image": images, "text": ["\ufeff", "red", "\u2060"]}), tmp_path / "in" / "a.parquet")

    label_data(tmp_path / "in", tmp_path / "out", shelf.store.root)

    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert [row["error"] for row in rows] == [None, None, "missing_input"]
    assert [row["modalities"] for row in rows[:2]] == [
        {"image": "used", "text": "absent"},
        {"image": "absent", "text": "used"},
    ]


def test_parts_are_read_in_any_order(tmp_path):
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
        table = reader.read(Part("part", "a.parquet", group, start, rows))
        assert table["id"].to_pylist() == list(range(400 * group + start, 400 * group + start + rows))
        assert table["none"].null_count == rows


@pytest.mark.parametrize(("start", "rows"), [(0, 6), (4, 2), (5, 1)])
def test_a_row_group_with_fewer_rows_than_the_job_recorded_is_refused(tmp_path, start, rows):
    """Such a file replaced another one of the same size after the job began."""
    pq.write_table(pa.table({"id": range(5)}), tmp_path / "a.parquet")
    file = read_input_file(tmp_path, "a.parquet").model_copy(update={"group_rows": (6,)})
    reader = PartReader(tmp_path, [file], pa.schema([("id", pa.int64())]))

    with pytest.raises(DataSetError, match=r"a\.parquet has changed while it was being labelled"):
        reader.read(Part("part", "a.parquet", 0, start, rows))


def test_a_file_replaced_between_two_parts_raises_an_error(tmp_path, shelf, pixels):
    shelf.publish("fruit")
    write_data_set(tmp_path / "in", pixels)
    plan = planned(tmp_path / "in", tmp_path / "out", shelf.store.root, part_rows=10)
    parts = plan.job.parts()
    with closing(PartLabeller(plan)) as labeller:
        labeller.label(parts[0])
        (tmp_path / "in" / "more" / "b.parquet").write_bytes(b"PAR1")

        with pytest.raises(DataSetError, match="changed while it was being labelled"):
            labeller.label(parts[-1])


def test_without_the_extra_it_says_what_to_install(tmp_path):
    script = "import sys; sys.modules['ray'] = None; from service.cli import app; app()"
    command = [sys.executable, "-c", script, "bulk", str(tmp_path), str(tmp_path / "out")]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "needs the extra ray" in done.stderr
    assert "'mora-serve[ray]'" in done.stderr


def test_the_other_commands_load_neither_ray_nor_pyarrow():
    script = "import sys, service.cli; print(sorted({'ray', 'pyarrow'} & sys.modules.keys()))"

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_the_help_names_every_column_of_the_output():
    command = [sys.executable, "-m", "service.cli", "bulk", "--help"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"}
    )

    assert [name for name in (*COLUMNS, *SET_COLUMNS) if name not in done.stdout] == []
