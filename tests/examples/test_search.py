"""A catalogue that `mora-serve embed` wrote is searched with usearch and with NumPy."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from examples.search import index_of, main, nearest, nearest_exactly, read_catalogue
from service.cli import app
from tests.support.closed_service import closed_service
from tests.support.tiny import PICTURE

TEXTS = ["a red apple", "green square", "picture of a square", "red red red", " "]


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    with closed_service(tmp_path_factory.mktemp("search"), lambda shelf: shelf.publish("search")) as running:
        yield running


@pytest.fixture(scope="module")
def catalogue(closed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    rows = [{"name": f"item {number}", "text": text, "image": None} for number, text in enumerate(TEXTS)]
    rows.append({"name": "drawing", "text": None, "image": PICTURE})
    pq.write_table(pa.Table.from_pylist(rows), folder / "in.parquet")
    words = ["embed", str(folder / "in.parquet"), str(folder / "vectors.parquet"), "--store", str(closed.store)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return folder / "vectors.parquet"


@pytest.mark.slow
def test_rows_without_a_vector_are_left_out(catalogue):
    rows, vectors = read_catalogue(catalogue)

    assert [row["name"] for row in rows] == ["item 0", "item 1", "item 2", "item 3", "drawing"]
    assert "embedding" not in rows[0]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_the_index_finds_what_a_comparison_with_every_vector_finds():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = vectors[7] + 0.1 * vectors[8]
    query /= np.linalg.norm(query)

    found, exactly = nearest(index_of(vectors), query, 5), nearest_exactly(vectors, query, 5)

    assert [row for row, _ in found] == [row for row, _ in exactly]
    assert found[0][0] == 7
    np.testing.assert_allclose([value for _, value in found], [value for _, value in exactly], atol=1e-4)


@pytest.mark.parametrize(
    ("query", "name"), [(["--text", "green square"], "item 1"), (["--image", "PICTURE"], "drawing")]
)
@pytest.mark.slow
def test_a_query_finds_its_item(catalogue, closed, tmp_path, capsys, query, name):
    (tmp_path / "a.png").write_bytes(PICTURE)
    words = [str(tmp_path / "a.png") if word == "PICTURE" else word for word in query]
    place = ["--url", closed.url, "--api-key-file", str(closed.key_file)]

    main([str(catalogue), "--task", "search", "--count", "2", *words, *place])

    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"1\.000  \{{'name': '{name}'.*\}}", first)
    assert name not in second


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["MISSING", "--text", "red"], "MISSING"),
        (["OTHER", "--text", "red"], "has no column embedding"),
        (["CATALOGUE", "--image", "gone.jpg"], "gone.jpg"),
        (["CATALOGUE", "--text", "red"], "gives no answer"),
        (["CATALOGUE"], "give --image, --text, or both"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, words, message):
    pq.write_table(pa.table({"name": ["a"], "embedding": [[1.0, 0.0]]}), tmp_path / "CATALOGUE")
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "OTHER")

    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / words[0]), *words[1:], "--task", "search", "--url", "http://127.0.0.1:9"])

    printed = ended.value.code if isinstance(ended.value.code, str) else capsys.readouterr().err
    assert message in printed
