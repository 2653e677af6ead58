"""Training and `mora-serve classify` see the same items in the same file."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.items.rows import TableError
from service.api.item import Item
from service.errors import Code
from service.labelling.labelled_file import chunks_of, open_source
from service.labelling.rows import Columns, Limits
from service.settings import Settings
from training.config import DataConfig, TaskConfig
from training.data.splits import load_split
from training.errors import DataError

CONFIG = TaskConfig(task="made", problem="multi_label", backbone="none", data=DataConfig(train="unused"))
LIMITS = Limits.of(Settings(max_text_bytes=1_000_000))
LONG = "long"  # stands for a cell beyond the csv module's own limit
EMPTY = ["", " ", "\t\r\n", "\u00a0\u3000", "\u2028", "\u200b", "\ufeff\u2060"]
TEXTS = [
    *EMPTY,
    None,
    "a red apple",
    '"quoted", and; parted',
    "two\nlines",
    "\u2028in the\u0085middle",
    "cafe\u0301",
    "NA",
]
TEXTS += ["nan", LONG, "\ufeffmark", "01", " kept ", "\u200bhidden"]
IMAGES = [*EMPTY, None, "a.png", " a.png ", "folder/b.png", "caf\u00e9.png", "cafe\u0301.png"]
LOST = ["gone.png", "folder", "https://e.org/a.png", "\0"]
NUMBERS = [float("nan"), 5, 1.5, True]  # what csv cannot hold

Rows = list[dict[str, object]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, png):
    """Three pictures, and where the files are written."""
    path = tmp_path_factory.mktemp("reader")
    (path / "folder").mkdir()
    (path / "a.png").write_bytes(png(1))
    (path / "folder" / "b.png").write_bytes(png(2))
    (path / "cafe\u0301.png").write_bytes(png(3))
    return path


def rows_of(images, texts):
    """Rows with labels."""
    labels = st.sampled_from(["x", "x|y", "", None])
    row = st.fixed_dictionaries({"image": st.sampled_from(images), "text": st.sampled_from(texts), "label": labels})
    return st.lists(row, min_size=1, max_size=8)


def write(rows: Rows, path: Path) -> Path:
    """The rows in the format of the file's suffix."""
    rows = [row | {"text": "x" * 140_000} if row["text"] == LONG else row for row in rows]
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["image", "text", "label"], delimiter=";")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        kinds = [pa.string(), pa.string(), pa.string()]
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(zip(rows[0], kinds, strict=True))), path)
    return path


def seen_by_classify(path: Path):
    """The image and text of each row, or the code of its problem."""
    chunks = chunks_of(open_source(path), Columns("image", "text", ()), LIMITS, 3)
    items = [item for chunk in chunks for item in chunk.items]
    return [(item.image, item.text) if isinstance(item, Item) else item.code for item in items]


def seen_by_training(path: Path):
    """The image and text of each row, or the message that names the rows to mend."""
    try:
        items = load_split("train", str(path), CONFIG).items
    except DataError as error:
        return str(error)
    return [(item.image.read_bytes() if isinstance(item.image, Path) else item.image, item.text) for item in items]


def are_named(refused: list[str], message: str, count: int) -> bool:
    """Whether the message to mend a file with `count` rows names the refused ones; of many it names the first."""
    if "are empty in every row" in message:
        return len(refused) == count
    lines = re.findall(r"^  rows? ([0-9, ]+?)(?: and ([0-9]+) more)?: ", message, re.MULTILINE)
    named = [number for numbers, _ in lines for number in numbers.split(", ")]
    return set(named) <= set(refused) and len(named) + sum(int(more or 0) for _, more in lines) == len(refused)


@settings(deadline=None)
@given(rows=rows_of(IMAGES, TEXTS), suffix=st.sampled_from([".csv", ".jsonl", ".parquet"]))
def test_training_and_classify_see_the_same_items(folder, rows, suffix):
    path = write(rows, folder / f"rows{suffix}")

    classified, trained = seen_by_classify(path), seen_by_training(path)

    if refused := [str(number) for number, item in enumerate(classified, start=1) if item is Code.MISSING_INPUT]:
        assert are_named(refused, trained, len(classified))
        assert "neither image nor text is given" in trained or "empty in every row" in trained
    else:
        assert classified == trained


@settings(deadline=None)
@given(rows=rows_of([*IMAGES, *LOST, *NUMBERS], [*TEXTS, *NUMBERS, "\ud800"]))
def test_training_and_classify_refuse_the_same_rows(folder, rows):
    path = folder / "odd.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    classified, trained = seen_by_classify(path), seen_by_training(path)

    refused = [str(number) for number, item in enumerate(classified, start=1) if isinstance(item, Code)]
    if refused:
        assert are_named(refused, trained, len(classified))
    else:
        assert classified == trained


@settings(deadline=None)
@given(rows=rows_of(IMAGES, TEXTS))
def test_every_format_holds_the_same_items(folder, rows):
    seen = [seen_by_classify(write(rows, folder / f"rows{suffix}")) for suffix in (".csv", ".jsonl", ".parquet")]

    assert seen[0] == seen[1] == seen[2]


def test_pictures_in_parquet_are_the_same_bytes(folder, png):
    cells = [png(3), None, b""]
    rows = [{"image": cell, "text": "red", "label": "x"} for cell in cells]
    structs = [{"image": {"bytes": cell, "path": "a.png"}, "text": None, "label": "x"} for cell in cells]
    for name, table in {"bytes": pa.Table.from_pylist(rows), "structs": pa.Table.from_pylist(structs)}.items():
        pq.write_table(table, folder / f"{name}.parquet")

        classified = seen_by_classify(folder / f"{name}.parquet")

        assert classified == seen_by_training(folder / f"{name}.parquet")
        assert classified[0][0] == png(3)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"image,text,label,\n,red,x,\n"),
        ("a.csv", b"image,text,label\n,red,x,,\n"),
        ("a.csv", b"sep=;\r\nimage;text;label\r\n;red;x\r\n"),
        ("a.csv", b"\xef\xbb\xbfsep=|\nimage|text|label\n|red|x\n"),
        ("a.csv", b"sep=\t\rimage\ttext\tlabel\r\tred\tx\r"),
        ("a.csv", b"image,text,label\r,red,x\r"),
        ("a.jsonl", b'{"image": null, "text": "red", "label": "x"}\r'),
        ("a.jsonl", b'\xef\xbb\xbf\n{"text": "red", "label": "x", "image": "\xe2\x80\x8b"}'),
    ],
)
def test_oddities_of_files_change_no_item(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    assert seen_by_classify(tmp_path / name) == seen_by_training(tmp_path / name) == [(None, "red")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"image,text,label\n,\xff,x\n"),
        ("a.csv", "image,text,label\n,red,x\n".encode("utf-16")),
        ("a.csv", "image,text,label\n,red,x\n".encode("utf-16-le")),
        ("a.jsonl", '{"text": "red", "label": "x"}\n'.encode("utf-16")),
        ("a.jsonl", '{"text": "rouge caf\u00e9"}\n'.encode("utf-16-be")),
        ("a.csv", b"image,text,label\n,red\0,x\n"),
        ("a.csv", b"image,text,label\n,red,x,more\n"),
        ("a.csv", b"image,text,label,,\n,red,x,,more\n"),
        ("a.csv", b"image,text ,label,text\xe2\x80\x8b\n,red,x,y\n"),
        ("a.csv", b"image,,text,,label\n,,red,,x\n"),
        ("a.jsonl", b'{"text": "red", "label": "x", "text": "blue"}\n'),
        ("a.jsonl", b'[{"text": "red", "label": "x"}]\n'),
        ("a.jsonl", b'[\n{"text": "red", "label": "x"},\n{"text": "red", "label": "x"}\n]\n'),
        ("a.jsonl", b'{"text": "red", "label": "x"}\nnull\n'),
        ("a.jsonl", b'{"text": "red", "label": "x"}\r5\r'),
        ("a.csv", b"PK\x03\x04\xff"),
        ("a.csv", b'image,text,label\n,"red,x\n'),
        ("a.csv", b"image,text,label\n,red\n"),
        ("a.csv", b"image,text,label,text\n,red,x,y\n"),
        ("a.csv", b""),
        ("a.jsonl", b'[["text", "red"], ["label", "x"]]\n'),
        ("a.JSONL", b'{"text": "red"}\n\n{"text": "\xff"}\n'),
        ("a.parquet", b"PAR1"),
        ("a.txt", b"red"),
    ],
)
def test_a_file_that_cannot_be_read_gets_one_message(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError) as trained:
        load_split("train", str(tmp_path / name), CONFIG)
    with pytest.raises(TableError) as classified:
        open_source(tmp_path / name)

    assert str(trained.value) == str(classified.value)
