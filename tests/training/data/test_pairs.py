"""Retrieval data: rows of queries and targets, read, split, counted and refused with the cure.

Covers training.data.examples.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from training.cli import app
from training.config import TaskConfig
from training.data.copies import copy_key
from training.data.examples import digest_of
from training.data.folds import fold_data
from training.data.missing import draw_tables, masked
from training.data.splits import load_data
from training.errors import DataError

Make = Callable[..., TaskConfig]


def write(path: Path, *rows: dict[str, object]) -> dict[str, str]:
    """A data configuration with these rows as every split."""
    columns = ("image", "text", "target_image", "target_text")
    table = pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows])
    pq.write_table(table, path / "rows.parquet")
    return dict.fromkeys(("train", "validation", "test"), str(path / "rows.parquet"))


def test_a_row_is_a_query_with_its_target_and_no_label(retrieval_config: Make, png: Callable[..., bytes]) -> None:
    data = load_data(retrieval_config())

    assert data.labels == ()
    assert len(data.train.items) == 24
    query = data.train.items[5]
    assert (query.image, query.text, query.labels) == (png(5, (30, 40)), "number 5", ())
    assert query.target is not None
    assert (query.target.image, query.target.text, query.target.target) == (png(5), "a thing, 5", None)
    assert [side.text for side in query.sides] == ["number 5", "a thing, 5"]
    lacking = {1: (True, False), 2: (False, True)}
    for row, (no_image, no_text) in lacking.items():
        item = data.train.items[row]
        assert ((item.image is None), (item.text is None)) == (no_image, no_text)
    assert data.train.items[3].target.image is None
    assert data.train.items[4].target.text is None


def test_a_missing_table_hides_modalities_of_the_query_alone(retrieval_config: Make) -> None:
    config = retrieval_config()
    data = load_data(config)
    table = draw_tables(config, data)["train"]
    hidden = [masked(item, lacks) for item, lacks in zip(data.train.items, table, strict=True)]

    assert sum(item.image is None or item.text is None for item in hidden) == 12
    assert [item.target for item in hidden] == [item.target for item in data.train.items]


def test_the_content_of_the_target_counts(retrieval_config: Make, tmp_path: Path) -> None:
    def loaded(text: str) -> tuple[str, bytes]:
        data = write(tmp_path, {"text": "a", "target_text": text}, {"text": "b", "target_text": "c"})
        read = load_data(retrieval_config(data=data))
        return read.fingerprint, digest_of(read.train.items[0])

    assert loaded("x") == loaded("x")
    assert loaded("x")[0] != loaded("y")[0]
    assert loaded("x")[1] != loaded("y")[1]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "a"}, "row 1: neither target_image nor target_text is given; fill one in or remove the row"),
        ({"target_text": "a"}, "row 1: neither image nor text is given; fill one in or remove the row"),
        ({"text": "a", "target_image": b"BM"}, "row 1: target_image "),
        ({"image": b"BM", "target_text": "a"}, "row 1: image "),
    ],
)
def test_a_row_without_a_side_is_refused(
    retrieval_config: Make, tmp_path: Path, row: dict[str, object], says: str
) -> None:
    rows = write(tmp_path, {"image": None, **row}, {"text": "b", "target_text": "b"})

    with pytest.raises(DataError) as refused:
        load_data(retrieval_config(data=rows))

    assert says in str(refused.value)


def test_a_column_that_does_not_exist_is_named(retrieval_config: Make, pairs: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"no column 'answer'.*set data\.target_image, to null if there is none"):
        load_data(retrieval_config(data={**pairs, "target_image": "answer"}))

    data = load_data(retrieval_config(data={**pairs, "target_image": "image"}))
    assert data.train.items[0].target.image == data.train.items[0].image


def test_queries_of_one_target_stay_in_one_split(retrieval_config: Make, tmp_path: Path) -> None:
    rows = [{"text": f"query {i}", "target_text": f"target {i // 3}"} for i in range(60)]
    drawn = load_data(retrieval_config(data={"train": write(tmp_path, *rows)["train"]}))

    splits = [{copy_key(item) for item in split.items} for split in drawn.splits().values()]
    assert [len(each) for each in splits] == [14, 2, 4]
    assert len(set.union(*splits)) == 20
    assert any("60 rows" in note and "the same target as another row" in note for note in drawn.notes)

    runs, _ = fold_data(retrieval_config(data={"train": str(tmp_path / "rows.parquet")}), drawn, 4)
    for run in runs:
        tested = {copy_key(item) for item in run.test.items}
        assert len(tested) == 5
        assert not tested & {copy_key(item) for item in run.train.items}


def test_a_target_in_two_splits_is_noted(retrieval_config: Make, tmp_path: Path) -> None:
    rows = write(tmp_path, *({"text": f"query {i}", "target_text": f"target {i}"} for i in range(3)))

    (note, *_) = [note for note in load_data(retrieval_config(data=rows)).notes if "repeat" in note]

    assert "3 of the 3 rows of validation repeat rows of train: they have the same target" in note
    assert "too high for targets that are new" in note


def test_an_empty_column_of_targets_is_noted(retrieval_config: Make, tmp_path: Path) -> None:
    rows = write(tmp_path, *({"text": f"query {i}", "target_text": f"target {i}"} for i in range(3)))

    notes = load_data(retrieval_config(data=rows)).notes

    empty = "column target_image is empty in all 3 rows of train"
    assert f"{empty}; set data.target_image to another column, or to null" in notes


def test_the_data_command_counts_the_queries(retrieval_config: Make, tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(retrieval_config().model_dump_json())

    result = CliRunner().invoke(app, ["data", str(path), "--output", str(tmp_path / "sheet.png")])

    assert result.exit_code == 0, result.output
    assert "queries by modality" in result.output
    assert "items by label" not in result.output
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
