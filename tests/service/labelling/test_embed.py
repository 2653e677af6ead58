"""`mora-serve embed`: a catalogue of pictures and texts as vectors, from a store and from a service."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import service.labelling.commands
from service.cli import app
from service.labelling.rows import DataSetError
from tests.support.closed_service import closed_service
from tests.support.made_data_set import planned, write_data_set
from tests.support.tiny import EMBEDDING_SIZE, PICTURE


def publish_search(shelf) -> None:
    shelf.publish("fruit")
    shelf.publish("search")


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    with closed_service(tmp_path_factory.mktemp("search"), publish_search) as running:
        yield running


@pytest.fixture(params=["store", "service"])
def place(request, closed):
    """The options that name a store, and the options that name a service of this store."""
    return closed.options(request.param)


@pytest.fixture
def run(monkeypatch):
    """`run(...)` runs `mora-serve ...` in this process and returns its result."""
    monkeypatch.setattr(service.labelling.commands, "configure_logging", lambda _: None)
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def catalogue(tmp_path):
    """A parquet file with an item of each pattern and two rows that cannot be encoded."""
    rows = [
        {"id": 1, "image": PICTURE, "text": "a red apple"},
        {"id": 2, "image": PICTURE, "text": None},
        {"id": 3, "image": None, "text": "green square"},
        {"id": 4, "image": None, "text": " "},
        {"id": 5, "image": PICTURE[:60], "text": "red"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "catalogue.parquet")
    return tmp_path / "catalogue.parquet"


def test_every_row_becomes_a_vector_or_an_error(run, catalogue, tmp_path, place, oracle, pixels):
    output = tmp_path / "vectors.parquet"

    done = run("embed", catalogue, output, "--task", "search", "--keep", "id", *place)

    assert done.exit_code == 0, done.output
    assert "5 rows in" in done.output
    assert "2 of them without an answer" in done.output
    assert "row 4: missing_input" in done.output
    table = pq.read_table(output)
    assert table.column_names == ["id", "embedding", "modalities", "error", "detail"]
    assert table.schema.field("embedding").type == pa.list_(pa.float32())
    assert table["error"].to_pylist() == [None, None, None, "missing_input", "image_undecodable"]
    assert table["embedding"].to_pylist()[3:] == [None, None]
    items = [(pixels, "a red apple"), (pixels, None), (None, "green square")]
    expected = [oracle("search").logits(*item) for item in items]
    np.testing.assert_allclose(np.stack(table["embedding"].to_pylist()[:3]), expected, atol=1e-5)
    assert table["modalities"].to_pylist()[1] == {"image": "used", "text": "absent"}


def test_json_lines_and_a_folder_of_pictures(run, tmp_path, closed, oracle, pixels):
    folder, output = tmp_path / "pictures", tmp_path / "vectors.jsonl"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(PICTURE)

    done = run("embed", folder, output, "--task", "search", "--store", closed.store)

    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["image"] for row in rows] == ["a.png", "b.png"]
    assert rows[0]["embedding"] == pytest.approx(oracle("search").logits(pixels, None), abs=1e-5)
    assert len(rows[0]["embedding"]) == EMBEDDING_SIZE


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--task", "fruit"], "fruit has labels and no vectors"),
        ([], "name a task with --task"),
        (["--task", "search", "--keep", "nothing"], "the input has no column nothing to keep"),
        (["--task", "search", "--image-column", "photo"], "the input has no column photo"),
    ],
)
def test_what_cannot_be_embedded_is_refused_before_the_work(run, catalogue, tmp_path, place, words, says):
    done = run("embed", catalogue, tmp_path / "out.parquet", *words, *place)

    assert done.exit_code == 1
    assert says in done.output
    assert not (tmp_path / "out.parquet").exists()


def test_the_output_is_checked_first(run, catalogue, tmp_path, closed):
    store = ["--task", "search", "--store", closed.store]
    (tmp_path / "old.parquet").write_bytes(b"old")

    assert "cannot hold vectors" in run("embed", catalogue, tmp_path / "out.csv", *store).output
    assert "--force replaces it" in run("embed", catalogue, tmp_path / "old.parquet", *store).output
    assert run("embed", catalogue, tmp_path / "old.parquet", "--force", *store).exit_code == 0
    both = run("embed", catalogue, tmp_path / "x.parquet", "--store", closed.store, "--url", closed.url)
    assert "leave one of them out" in both.output


def test_a_catalogue_without_any_usable_row_fails(run, tmp_path, closed):
    file = tmp_path / "in.csv"
    file.write_text("text\n \n \n")

    done = run("embed", file, tmp_path / "out.parquet", "--task", "search", "--store", closed.store)

    assert done.exit_code == 1
    assert "2 of them without an answer" in done.output


def test_labels_of_a_retrieval_task_are_refused_with_the_cure(run, catalogue, tmp_path, place):
    cure = "search is a retrieval task, which has no labels; mora-serve embed gives its vectors"

    many = run("classify", catalogue, "--task", "search", "--output", tmp_path / "out.parquet", *place)
    one = run("classify", "--text", "red", "--task", "search", *place)

    assert (many.exit_code, one.exit_code) == (1, 1)
    assert cure in many.output
    assert cure in one.output


def test_one_item_is_labelled_by_the_tasks_that_have_labels(run, place):
    done = run("classify", "--text", "red", "--json", *place)

    assert done.exit_code == 0, done.output
    assert [json.loads(line)["task"] for line in done.output.splitlines()] == ["fruit"]


def test_a_bulk_job_of_a_retrieval_task_is_refused(tmp_path, closed, pixels):
    write_data_set(tmp_path / "data", pixels)

    with pytest.raises(DataSetError, match="mora-serve embed gives its vectors"):
        planned(tmp_path / "data", tmp_path / "out", closed.store, task="search")
