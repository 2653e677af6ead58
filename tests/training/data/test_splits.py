"""Files, folders and hub data sets: read as splits, or refused with the row and the cure.

Covers training.data.examples, training.data.tables.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.odd_pictures import PICTURE, encoded, with_large_metadata, with_odd_exif
from training.config import TaskConfig
from training.data.examples import Example
from training.data.golden import golden_items
from training.data.missing import draw_tables
from training.data.splits import Split, TaskData, load_data, load_split
from training.errors import DataError
from training.learning.batches import RawInputs
from training.model.backbones import load_backbone_config
from training.model.preprocessing import Preprocessor

Make = Callable[..., TaskConfig]


@pytest.fixture
def shop(tmp_path: Path, png: Callable[..., bytes]) -> Path:
    """photo, caption, kind: 30 rows, some cells blank, one label seen once."""
    (tmp_path / "photos").mkdir()
    lines = ["photo,caption,kind"]
    for i in range(30):
        kind = "once" if i == 29 else ["shoe", "hat", "NA"][i % 3]
        (tmp_path / "photos" / f"{i}.png").write_bytes(png(i))
        photo = "" if i % 5 == 1 else f"photos/{i}.png"
        caption = "" if i % 5 == 2 else f'"a {kind}, number {i}"'
        lines.append(f"{photo},{caption},{kind}")
    (tmp_path / "shop.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "shop.csv"


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    """The rows in the format of the file's suffix; csv writes a NaN as an empty cell, as pandas does."""
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([rows[0], *([cell if cell == cell else "" for cell in row.values()] for row in rows)])
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        cells = [{name: cell if cell == cell else None for name, cell in row.items()} for row in rows]
        pq.write_table(pa.Table.from_pylist(cells), path)
    return path


def write_labels(path: Path, labels: list[object]) -> Path:
    """A row of text for each label."""
    return write_rows(path, [{"text": f"text {number}", "label": label} for number, label in enumerate(labels)])


def shop_config(make: Make, csv: Path, **data: str) -> TaskConfig:
    return make(data={"train": str(csv), "image": "photo", "text": "caption", "label": "kind", **data}, missing={})


def test_a_csv_with_blank_cells_and_no_splits_of_its_own(make_config: Make, shop: Path) -> None:
    data = load_data(shop_config(make_config, shop))

    assert data.labels == ("NA", "hat", "once", "shoe")  # NA is a word, not a hole
    items = [*data.train.items, *data.validation.items, *data.test.items]
    assert sorted(item.row for item in items) == list(range(1, 31))
    assert {item.row for item in items if item.image is None} == {2, 7, 12, 17, 22, 27}
    assert {item.row for item in items if item.text is None} == {3, 8, 13, 18, 23, 28}
    assert "once" in {item.labels[0] for item in data.train.items}  # a label seen once is trained on
    assert any("once" in note for note in data.notes)
    assert load_data(shop_config(make_config, shop)).fingerprint == data.fingerprint


def test_every_faulty_row_is_named_with_its_cure(make_config: Make, shop: Path) -> None:
    text = shop.read_text().replace("photos/3.png", "photos/gone.png").replace("photos/5.png", "photos/text.png")
    shop.write_text(text + ",,hat\nphotos/7.png,words,\n")
    (shop.parent / "photos" / "text.png").write_text("this is no picture")

    with pytest.raises(DataError) as error:
        load_data(shop_config(make_config, shop))

    message = str(error.value)
    assert "3 rows to mend" in message
    assert "row 4: photo 'photos/gone.png' does not exist" in message
    assert "leave the cell empty" in message
    assert "row 6: photo 'photos/text.png' is not a JPEG, PNG, WebP, AVIF or GIF file; replace it, or leave" in message
    assert "row 31: neither photo nor caption is given" in message
    assert message.endswith("\n  1 row has no label and was left out: row 32 ('photos/7.png')")


def test_of_many_faulty_rows_ten_are_listed(make_config: Make, tmp_path: Path) -> None:
    rows = [f"gone-{number}.png,words,a\n" for number in range(500)]
    (tmp_path / "bad.csv").write_text("image,text,label\n" + "".join(rows))

    with pytest.raises(DataError, match="500 rows to mend") as error:
        load_split("train", str(tmp_path / "bad.csv"), make_config())

    assert len(str(error.value).splitlines()) == 12


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "columns image and text are empty in every row; name others as data.image and data.text"),
        ({"image": None}, "column text is empty in every row; name another as data.text"),
        ({"text": None}, "column image is empty in every row; name another as data.image"),
    ],
)
@pytest.mark.parametrize("cell", ["", "  ", "\u200b"])
def test_an_empty_column_is_one_message(
    make_config: Make, tmp_path: Path, fields: dict[str, None], says: str, cell: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("image,text,label\n" + f"{cell},{cell},a\n" * 80)
    config = make_config(data={"train": str(path), **fields})

    with pytest.raises(DataError) as error:
        load_data(config)

    assert str(error.value) == f"{path} (train): {says}"


def test_rows_with_one_fault_are_one_line(make_config: Make, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("image,text,label\n" + ",words,a\n" + "gone.png,,a\n" * 9 + ",,b\n" * 2)

    with pytest.raises(DataError) as error:
        load_split("train", str(path), make_config())

    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["  rows 2, 3, 4 and 6 more", "  rows 11, 12"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            ["{},a", "{},b", "{},A"] * 8,
            "in case or in the form of characters: 'a' (8) and 'A' (8)",
        ),
        (["{},a|b", "{},a", "{},c"] * 8, "labels of 8 rows of column label look like lists in one text: 'a|b'"),
        (["{},a", "{},b"] * 12 + ["{},c"] * 2, "no item of validation has 1 of the 3 labels: c"),
        (["{},a", "{},b", "NA,a"] * 8, "texts of train that read like an empty cell: 'NA' ("),
        (
            ["{},a", "{},b", "same,b", "same,a"] * 8,
            "of train with the same picture and text have different labels",
        ),
    ],
)
def test_what_looks_like_a_mistake_is_noted(make_config: Make, tmp_path: Path, rows: list[str], says: str) -> None:
    path = tmp_path / "rows.csv"
    lines = [row.format(f"text {number}") for number, row in enumerate(rows)]
    path.write_text("\n".join(["text,label", *lines]))

    notes = load_data(make_config(data={"train": str(path), "image": None})).notes

    assert any(says in note for note in notes), notes
    assert not any("\n" in note for note in notes)


def test_ordinary_data_has_no_such_notes(make_config: Make, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["text,label", *(f"text {number},{'ab'[number % 2]}" for number in range(40))]))

    notes = load_data(make_config(data={"train": str(path), "image": None})).notes

    assert notes == (f"held out of {path}: 4 for validation, 8 for test",)


def test_an_unknown_label_in_test_names_its_row(make_config: Make, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("image,text,label\n,one,a\n,two,b\n")
    (tmp_path / "test.csv").write_text("image,text,label\n,one,a\n,three,c\n")
    paths = {name: str(tmp_path / f"{name}.csv") for name in ("train", "test")}

    with pytest.raises(DataError, match=r"test\.csv \(test\) row 2: label 'c'"):
        load_data(make_config(data={**paths, "validation": paths["train"]}))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("image,text,label,text\n,one,a,x\n", "has the column 'text' more than once; rename all but one"),
        ("image,text\n,one\n", "no column 'label'"),
        ("image,text,label\n", "no rows"),
        ("", "is empty; its first line must name the columns"),
        ("image,text,label\n,one,a\n,two,a\n", r"train\.csv has only the label 'a'; .* mend data\.label"),
        ("image,text,label\n,one,a,b\n", "line 2 has 4 cells, the header 3"),
        ('image,text,label\n,one,a\n,"two,b\n,"three",c\n', "line 3: .* close each quote that is opened"),
        ("image,text,label\nhttps://e.org/a.png,one,a\n", "row 1: image 'https://e.org/a.png' is a URL"),
    ],
)
def test_an_unusable_csv_is_refused_with_the_reason(make_config: Make, tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "train.csv").write_text(content)
    path = str(tmp_path / "train.csv")

    with pytest.raises(DataError, match=says):
        load_data(make_config(data={"train": path, "validation": path, "test": path}))


@pytest.mark.parametrize(
    "content",
    [
        "image;text;label\n;one, two;a\n;three;b\n",
        "image\ttext\tlabel\n\tone, two\ta\n\tthree\tb\n",
        '\ufeffimage, text ,label\r\n  ,"one, two",a\r\n\r\n,three,b\r\n',
    ],
)
def test_csv_dialects_of_spreadsheets(make_config: Make, tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.CSV").write_bytes(content.encode())

    items = load_split("train", str(tmp_path / "rows.CSV"), make_config()).items

    assert [(item.image, item.text, item.labels) for item in items] == [
        (None, "one, two", ("a",)),
        (None, "three", ("b",)),
    ]


def test_a_csv_in_another_encoding_is_refused(make_config: Make, tmp_path: Path) -> None:
    rows = "image,text,label\n" + ",plain,a\n" * 5_000 + ",caf\u00e9,a\n"
    for content, says in [
        (rows.encode("latin-1"), "is not UTF-8 in line 5002; save it as UTF-8"),
        (rows.encode("utf-16"), "is in UTF-16; save it as UTF-8"),
        (b"PK\x03\x04\x14\x00\xff", "is an Excel workbook, or another zip file; save it as CSV"),
    ]:
        (tmp_path / "rows.csv").write_bytes(content)
        with pytest.raises(DataError, match=says):
            load_split("train", str(tmp_path / "rows.csv"), make_config())


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("cut.png", "is damaged or cut short"),
        ("tail.jpg", "is damaged or cut short"),
        ("long.png", "has more than 50,000,000 pixels, before or after it is resized"),
        ("tall.jpg", "has more than 50,000,000 pixels, before or after it is resized"),
        ("huge.png", "has more than 50,000,000 pixels, before or after it is resized"),
        ("drawing.bmp", "is not a JPEG, PNG, WebP, AVIF or GIF file"),
    ],
)
def test_an_unusable_picture_is_refused_before_training(
    make_config: Make, tmp_path: Path, png: Callable[..., bytes], name: str, problem: str
) -> None:
    (tmp_path / "cut.png").write_bytes(png(1)[:300])
    (tmp_path / "tail.jpg").write_bytes(encoded("JPEG", PICTURE.resize((900, 600)))[:-100])
    Image.new("RGB", (2_200, 2)).save(tmp_path / "long.png")
    Image.new("RGB", (3, 3_300)).save(tmp_path / "tall.jpg")
    Image.new("1", (10_000, 5_001)).save(tmp_path / "huge.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "drawing.bmp")
    (tmp_path / "rows.csv").write_text(f"image,text,label\n{name},words,a\n")

    with pytest.raises(DataError) as error:
        load_split("train", str(tmp_path / "rows.csv"), make_config())

    assert f"row 1: image '{name}' {problem}; replace it, or leave the cell empty" in str(error.value)


ODD_PICTURES = with_large_metadata() | with_odd_exif()
ODD_PICTURES |= {
    f"{kind} {mode}": encoded(kind, PICTURE.convert("L").convert(mode), **options)
    for kind, mode, options in (
        ("PNG", "1", {}),
        ("PNG", "I;16", {}),
        ("PNG", "LA", {}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "P", {"transparency": bytes(range(200))}),
        ("PNG", "RGBA", {"save_all": True, "append_images": [PICTURE]}),
        ("JPEG", "L", {"progressive": True}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "YCbCr", {}),
        ("WEBP", "RGBA", {"save_all": True, "append_images": [PICTURE]}),
        ("GIF", "P", {"transparency": 3, "interlace": True}),
        ("GIF", "L", {"save_all": True, "append_images": [PICTURE], "disposal": 2}),
        ("GIF", "RGBA", {}),
        ("AVIF", "RGBA", {}),
        ("AVIF", "L", {"save_all": True, "append_images": [PICTURE]}),
    )
}
DAMAGED_PICTURES = {f"{name} cut {cut}": data[:-cut] for name, data in ODD_PICTURES.items() for cut in (9, 100)}


def outcome(use: Callable[[], object]) -> bool:
    """Whether it succeeds; any error other than a DataError fails the test."""
    try:
        use()
    except DataError:
        return False
    return True


@pytest.fixture(scope="module")
def preprocessor(tiny_backbone: Path) -> Preprocessor:
    return Preprocessor(str(tiny_backbone), load_backbone_config(str(tiny_backbone)))


@pytest.mark.parametrize("name", [*ODD_PICTURES, *DAMAGED_PICTURES])
@pytest.mark.slow
def test_a_picture_is_checked_as_it_is_used(
    make_config: Make, tmp_path: Path, preprocessor: Preprocessor, name: str
) -> None:
    path = tmp_path / "picture"
    path.write_bytes((ODD_PICTURES | DAMAGED_PICTURES)[name])
    (tmp_path / "rows.csv").write_text("image,text,label\npicture,words,a\n")
    item = Example(1, path, None, ("a",))

    passes = outcome(lambda: load_split("train", str(tmp_path / "rows.csv"), make_config()))

    assert passes or name not in ODD_PICTURES
    assert passes == outcome(lambda: RawInputs(preprocessor).image(item))
    assert passes == outcome(lambda: golden_items(Split("test", "made", [item])))


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-99])])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "AVIF", "GIF"])
def test_a_picture_that_changes_after_the_check_is_named(
    make_config: Make, tmp_path: Path, preprocessor: Preprocessor, kind: str, change: Callable[[Path], object]
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(kind))
    (tmp_path / "rows.csv").write_text("image,text,label\n,words,a\npicture,words,b\n")
    split = load_split("train", str(tmp_path / "rows.csv"), make_config())

    change(path)

    for use in (lambda: golden_items(split), lambda: RawInputs(preprocessor).images(split.items[1:])):
        with pytest.raises(DataError, match=f"^row 2: {path}"):
            use()


def test_a_null_in_a_list_of_labels_is_left_out(make_config: Make, tmp_path: Path) -> None:
    pq.write_table(
        pa.Table.from_pylist([{"image": None, "text": "x", "label": ["a", None, " "]}]), tmp_path / "rows.parquet"
    )

    config = make_config(problem="multi_label", data={"train": "unused"})
    (item,) = load_split("train", str(tmp_path / "rows.parquet"), config).items

    assert item.labels == ("a",)


def test_captions_that_look_like_dates_stay_text(make_config: Make, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"image": null, "text": "2020-01-01", "label": 1}\n')

    (item,) = load_split("train", str(tmp_path / "rows.jsonl"), make_config()).items

    assert (item.text, item.labels) == ("2020-01-01", ("1",))


@pytest.mark.parametrize("source", ["gone.csv", "./gone", "/nowhere/gone"])
def test_a_missing_source_is_named(make_config: Make, source: str) -> None:
    with pytest.raises(DataError, match="gone"):
        load_split("train", source, make_config())


def test_parquet_jsonl_and_csv_give_the_same_items(
    make_config: Make, tmp_path: Path, png: Callable[..., bytes]
) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    rows = [
        {"image": "a.png", "text": "both", "label": ["x", "y"]},
        {"image": None, "text": "text only", "label": ["y"]},
        {"image": "a.png", "text": None, "label": []},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rows.csv").write_text("image,text,label\na.png,both,x|y\n,text only,y\na.png,,\n")
    config = make_config(problem="multi_label", data={"train": "unused"})

    tables = [load_split("train", str(tmp_path / f"rows.{kind}"), config).items for kind in ("parquet", "jsonl", "csv")]

    assert tables[0] == tables[1] == tables[2]
    assert [item.labels for item in tables[0]] == [("x", "y"), ("y",), ()]


def test_a_folder_of_images_by_label(make_config: Make, tmp_path: Path, png: Callable[..., bytes]) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(2):
            (tmp_path / label / f"{i}.png").write_bytes(png(i))

    items = load_split("train", str(tmp_path), make_config()).items

    assert [item.labels[0] for item in items] == ["cat", "cat", "dog", "dog"]
    assert all(item.image is not None and item.text is None for item in items)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_folder_of_images_may_have_texts_in_its_metadata(
    make_config: Make, tmp_path: Path, png: Callable[..., bytes], name: str
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(png(1))
    rows = [{"file_name": "a/1.png", "text": "red", "label": "x"}]
    csv = "file_name,text,label\na/1.png,red,x\n"
    (tmp_path / name).write_text(csv if name.endswith("csv") else json.dumps(rows[0]))

    (item,) = load_split("train", str(tmp_path), make_config()).items

    assert (item.image, item.text, item.labels) == (tmp_path / "a" / "1.png", "red", ("x",))


def test_classes_have_names_and_a_class_below_zero_is_no_label(make_config: Make, tmp_path: Path) -> None:
    kind = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"text": datasets.Value("string"), "label": kind, "labels": datasets.List(kind)})
    rows = {"text": ["a", "b"], "label": [1, -1], "labels": [[1, 0], [-1]]}
    pq.write_table(datasets.Dataset.from_dict(rows, features).data.table, tmp_path / "rows.parquet")
    data = {"train": "unused", "image": None}

    (item,) = load_split("train", str(tmp_path / "rows.parquet"), make_config(data=data)).items
    assert (item.row, item.labels) == (1, ("dog",))
    config = make_config(problem="multi_label", data={**data, "label": "labels"})
    items = load_split("train", str(tmp_path / "rows.parquet"), config).items

    assert [item.labels for item in items] == [("dog", "cat"), ()]


@pytest.mark.parametrize("dictionary", [True, False])
def test_classes_have_names_in_a_file_of_pandas_or_of_datasets(
    make_config: Make, tmp_path: Path, dictionary: bool
) -> None:
    names = pa.array(["cat", None, "dog"])
    table = pa.table({"text": ["a", "b", "c"], "label": names.dictionary_encode() if dictionary else names})
    if not dictionary:
        kind = datasets.ClassLabel(names=["cat", "dog"])
        features = datasets.Features({"text": datasets.Value("string"), "label": kind})
        table = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, None, 1]}, features).data.table
    pq.write_table(table, tmp_path / "rows.parquet")

    split = load_split("train", str(tmp_path / "rows.parquet"), make_config(data={"train": "unused", "image": None}))

    assert [item.labels for item in split.items] == [("cat",), ("dog",)]
    assert split.unlabelled == ("2",)


def test_a_class_number_without_a_name_names_its_row(make_config: Make, tmp_path: Path) -> None:
    features = {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    table = pa.table({"text": ["a", "b"], "label": [1, 2]})
    metadata = {b"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "rows.parquet")

    with pytest.raises(DataError, match=r"rows\.parquet row 2: class 2 has no name: the names are of 0 to 1"):
        load_split("train", str(tmp_path / "rows.parquet"), make_config(data={"train": "unused", "image": None}))


NO_LABEL = [None, float("nan"), "", " \u00a0", "\u200b\ufeff"]


@pytest.mark.parametrize("blank", NO_LABEL, ids=ascii)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_rows_without_a_label_are_left_out_with_a_note(
    make_config: Make, tmp_path: Path, blank: object, suffix: str
) -> None:
    labels = ["a", blank, "b", "a", blank, "b"]
    path = str(write_labels(tmp_path / f"rows.{suffix}", labels))

    data = load_data(make_config(data={"train": path, "validation": path, "test": path, "image": None}))

    assert data.labels == ("a", "b")
    assert [item.row for item in data.train.items] == [1, 3, 4, 6]
    notes = [note for note in data.notes if "no label" in note]
    assert notes == [
        f"{path} ({split}): 2 rows have no label and were left out: rows 2, 5"
        for split in ("train", "validation", "test")
    ]


@pytest.mark.parametrize("blank", [*NO_LABEL, [], [None], ["", "\u200b"]], ids=ascii)
def test_items_to_which_no_label_applies_are_kept_with_a_note(make_config: Make, tmp_path: Path, blank: object) -> None:
    path = str(write_labels(tmp_path / "rows.jsonl", [["a", "b"], blank, "b|a", ["a"]]))
    sources = {"train": path, "validation": path, "test": path, "image": None}

    data = load_data(make_config(problem="multi_label", data=sources))

    assert [item.labels for item in data.train.items] == [("a", "b"), (), ("b", "a"), ("a",)]
    assert f"{path} (train): 1 row has no label and was kept, as items to which no label applies: row 2" in data.notes


@pytest.mark.parametrize("blank", NO_LABEL, ids=ascii)
def test_a_split_without_any_label_is_refused(make_config: Make, tmp_path: Path, blank: object) -> None:
    path = write_labels(tmp_path / "rows.jsonl", [blank, blank])

    with pytest.raises(DataError, match=r"none of the 2 rows has a label; set data\.label"):
        load_split("test", str(path), make_config(data={"train": "unused", "image": None}))


def test_a_row_that_is_left_out_needs_no_picture(make_config: Make, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("image,text,label\ngone.png,one,\n,two,a\n")

    split = load_split("train", str(tmp_path / "rows.csv"), make_config())

    assert [item.text for item in split.items] == ["two"]
    assert split.unlabelled == ("1 ('gone.png')",)


@pytest.mark.parametrize("label", [["a"], [], {"name": "a"}])
def test_a_single_label_is_text_or_a_number(make_config: Make, tmp_path: Path, label: object) -> None:
    path = write_labels(tmp_path / "rows.jsonl", ["a", label])

    with pytest.raises(DataError, match=r"row 2: column label holds a label of type (list|dict), .*; set data\.label"):
        load_split("train", str(path), make_config(data={"train": "unused", "image": None}))


def test_a_data_set_of_the_hub_has_names_of_classes_and_encoded_images(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, png: Callable[..., bytes]
) -> None:
    kind = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"image": datasets.Image(), "label": kind})
    rows = {"image": [{"bytes": png(1), "path": None}] * 3, "label": [1, 0, -1]}
    hub = {("owner/pets", "dev"): datasets.Dataset.from_dict(rows, features)}
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: hub[name, split])
    config = make_config(data={"train": "unused", "text": None})

    items = load_split("train", "owner/pets:dev", config).items

    assert [(item.image, item.labels) for item in items] == [(png(1), ("dog",)), (png(1), ("cat",))]


def test_a_data_set_of_the_hub_may_have_lists_of_classes(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = datasets.List(datasets.ClassLabel(names=["cat", "dog"]))
    features = datasets.Features({"text": datasets.Value("string"), "label": kinds})
    rows = {"text": ["a", "b", "c"], "label": [[1, 0], [-1], [-1, 0]]}
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: datasets.Dataset.from_dict(rows, features))
    config = make_config(problem="multi_label", data={"train": "unused", "image": None})

    items = load_split("train", "owner/pets", config).items

    assert [item.labels for item in items] == [("dog", "cat"), (), ("cat",)]


@pytest.mark.parametrize("other", ["cafe\u0301", "caf\u00e9\u200b", "\u202acaf\u00e9\u202c", "caf\u00ad\u00e9\u00a0"])
def test_labels_that_look_alike_are_one_label(make_config: Make, tmp_path: Path, other: str) -> None:
    path = str(write_labels(tmp_path / "rows.csv", [other, "caf\u00e9", "caf\u00e9", "tea"]))
    sources = {"train": path, "validation": path, "test": path, "image": None}

    data = load_data(make_config(data=sources))
    listed = load_data(make_config(data=sources, labels=["cafe\u0301", "\u200b tea"]))

    assert data.labels == listed.labels == ("caf\u00e9", "tea")
    note = f"merged labels that look alike: 'caf\u00e9' (9 rows, 6 as 'caf\\xe9', 3 as {other!a})"
    assert note in data.notes


def test_a_picture_whose_name_has_another_normal_form_is_found(
    make_config: Make, tmp_path: Path, png: Callable[..., bytes]
) -> None:
    (tmp_path / "cafe\u0301").mkdir()
    (tmp_path / "cafe\u0301" / "e\u0301.png").write_bytes(png(1))
    for suffix in ("csv", "jsonl"):
        rows = [{"image": "caf\u00e9/\u00e9.png", "text": "", "label": "a"}]
        write_rows(tmp_path / "cafe\u0301" / ".." / f"r\u00e9.{suffix}", rows)

        (item,) = load_split("train", str(tmp_path / f"re\u0301.{suffix}"), make_config()).items

        assert isinstance(item.image, Path)
        assert item.image.read_bytes() == png(1)
    folder = load_split("train", str(tmp_path), make_config()).items
    assert [item.labels for item in folder] == [("caf\u00e9",)]


def test_half_of_a_surrogate_pair_is_refused(make_config: Make, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"image": null, "text": "\\ud800", "label": "a"}\n')

    with pytest.raises(DataError, match="row 1: the text has half of a surrogate pair"):
        load_split("train", str(tmp_path / "rows.jsonl"), make_config())


@pytest.mark.parametrize("column", ["text", "label"])
def test_text_of_parquet_that_is_not_utf8_is_named_so(make_config: Make, tmp_path: Path, column: str) -> None:
    words = pa.Array.from_buffers(pa.string(), 2, pa.array([b"red", b"caf\xe9"]).buffers())
    columns = {name: words if name == column else pa.array(["a", "b"]) for name in ("text", "label")}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")

    fault = "the text is not UTF-8" if column == "text" else r"the label 'caf\\udce9' is not UTF-8"
    with pytest.raises(DataError, match=f"row 2: {fault}, or has half"):
        load_split("train", str(tmp_path / "a.parquet"), make_config(data={"train": "x", "image": None}))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("name", ["Kate\u0301", " Kat\u00e9 ", "Ka\u200bt\u00e9"])
def test_a_column_may_be_named_as_it_looks(make_config: Make, tmp_path: Path, suffix: str, name: str) -> None:
    source = write_rows(tmp_path / f"a{suffix}", [{"text": f"text {i}", name: "xy"[i % 2]} for i in range(4)])
    config = make_config(data={"train": str(source), "image": None, "label": "Kat\u00e9"})

    assert [item.labels for item in load_split("train", str(source), config).items] == [("x",), ("y",)] * 2


def write_csv(folder: Path, rows: list[dict[str, object]]) -> str:
    """Each row with a picture file of its own."""
    lines = ["image,text,label"]
    for number, row in enumerate(rows):
        if row["image"] is not None:
            (folder / f"{number}.png").write_bytes(row["image"])
        labels = row["label"]
        cell = "|".join(labels) if isinstance(labels, list) else labels
        lines.append(f"{number}.png,{row['text']},{cell}" if row["image"] is not None else f",{row['text']},{cell}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "rows.csv")


def write_jsonl(folder: Path, rows: list[dict[str, object]]) -> str:
    """Equal pictures in one file, which some rows name in another way."""
    lines = []
    for number, row in enumerate(rows):
        path = None
        if row["image"] is not None:
            name = hashlib.sha256(row["image"]).hexdigest()[:8]
            (folder / f"{name}.png").write_bytes(row["image"])
            path = f"{name}.png" if number % 2 else f"./../{folder.name}/{name}.png"
        lines.append(json.dumps({**row, "image": path}))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder / "rows.jsonl")


def write_parquet(folder: Path, rows: list[dict[str, object]]) -> str:
    """The bytes of the pictures, also as the pairs of bytes and path of Hugging Face's data sets."""
    pairs = [{**row, "image": None if row["image"] is None else {"bytes": row["image"], "path": "a"}} for row in rows]
    pq.write_table(pa.Table.from_pylist(pairs), folder / "rows.parquet")
    return str(folder / "rows.parquet")


SPLITS = ("train", "validation", "test")
KIND = datasets.ClassLabel(names=["cat", "dog"])
Write = Callable[[Path, list[dict[str, object]]], str]


def key_sets(data: TaskData, key: Callable[[Example], object]) -> list[set[object]]:
    return [{key(item) for item in getattr(data, name).items} for name in SPLITS]


def disjoint(sets: list[set[object]]) -> bool:
    return sum(map(len, sets)) == len(set.union(*sets))


def bytes_of(item: Example) -> bytes:
    assert item.image is not None
    return item.image.read_bytes() if isinstance(item.image, Path) else item.image


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet])
@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_a_picture_is_in_one_split_with_all_its_texts(
    make_config: Make, tmp_path: Path, png: Callable[..., bytes], write: Write, problem: str
) -> None:
    rows = [
        {
            "image": png(row % 40),
            "text": f"text {row}",
            "label": "abc"[row % 3] if problem == "single_label" else ["abc"[row % 3], "de"[row % 2]],
        }
        for row in range(100)
    ]

    data = load_data(make_config(problem=problem, data={"train": write(tmp_path, rows)}, missing={}))

    assert disjoint(key_sets(data, bytes_of))
    assert [len(getattr(data, name).items) for name in SPLITS] == pytest.approx([70, 10, 20], abs=4)
    assert {label for item in data.test.items for label in item.labels} == set(data.labels)
    assert any("100 rows of" in note and "40 groups" in note for note in data.notes)


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet])
def test_equal_texts_without_a_picture_are_in_one_split(make_config: Make, tmp_path: Path, write: Write) -> None:
    """Also with another label or other white space."""
    rows = [
        {"image": None, "text": f"text{'  ' if row % 4 else ' '}{row % 30}", "label": "ab"[row % 7 % 2]}
        for row in range(90)
    ]

    data = load_data(make_config(data={"train": write(tmp_path, rows)}, missing={}))

    assert disjoint(key_sets(data, lambda item: (item.text or "").split()[-1]))
    assert [len(getattr(data, name).items) for name in SPLITS] == pytest.approx([63, 9, 18], abs=4)


def test_copies_in_an_image_folder_are_in_one_split(
    make_config: Make, tmp_path: Path, png: Callable[..., bytes]
) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(20):
            (tmp_path / label / f"{number}.png").write_bytes(png(number if label == "cat" else number + 15))
            (tmp_path / label / f"copy of {number}.png").write_bytes(png(number if label == "cat" else number + 15))

    data = load_data(make_config(data={"train": str(tmp_path)}, missing={}))

    assert disjoint(key_sets(data, bytes_of))
    assert any("80 rows" in note for note in data.notes)


@pytest.mark.parametrize("of_each", [1, 2, 3])
def test_a_data_set_of_the_hub_is_split_and_masked_by_picture(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, png: Callable[..., bytes], of_each: int
) -> None:
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string"), "label": KIND})
    numbers = [number for number in range(30) for _ in range(of_each)]
    rows = {
        "image": [{"bytes": png(number), "path": f"{row}.png"} for row, number in enumerate(numbers)],
        "text": [f"text {row}" for row in range(len(numbers))],
        "label": [number % 2 for number in numbers],
    }
    hub = datasets.Dataset.from_dict(rows, features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: hub)
    drawn = {"ratio": 0.5}
    config = make_config(data={"train": "owner/pets"}, missing=dict.fromkeys(SPLITS, drawn))

    data = load_data(config)

    assert disjoint(key_sets(data, bytes_of))
    table = draw_tables(config, data)["train"]
    lacks = {(bytes_of(item), int(entry)) for item, entry in zip(data.train.items, table, strict=True)}
    assert len(lacks) == len(key_sets(data, bytes_of)[0])
    assert {entry for _, entry in lacks} == {0, 1, 2}


def test_rows_that_are_all_the_same_are_never_divided(
    make_config: Make, tmp_path: Path, png: Callable[..., bytes]
) -> None:
    rows: list[dict[str, object]] = [{"image": png(1), "text": f"{row}", "label": "ab"[row % 2]} for row in range(30)]

    with pytest.raises(DataError, match=r"too few rows .* a validation split; rows with the same .* 1 groups; give"):
        load_data(make_config(data={"train": write_csv(tmp_path, rows)}, missing={}))


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet])
def test_splits_of_the_user_that_share_rows_are_named(
    make_config: Make, tmp_path: Path, png: Callable[..., bytes], write: Write
) -> None:
    sources = {}
    for start, name in enumerate(SPLITS):
        (tmp_path / name).mkdir()
        rows = [{"image": png(10 * start + row), "text": f"{name} {row}", "label": "ab"[row % 2]} for row in range(6)]
        shared: list[dict[str, object]] = [
            {"image": png(99), "text": f"in {name}", "label": "a"},
            {"image": None, "text": "thanks", "label": "b"},
        ]
        sources[name] = write(tmp_path / name, rows + (shared if name != "validation" else []))

    notes = load_data(make_config(data=sources, missing={})).notes

    (leak,) = [note for note in notes if "repeat" in note]
    assert leak.startswith("2 of the 8 rows of test repeat rows of train")
    assert "row 8 of train and row 8 of test" in leak


@pytest.mark.parametrize("change", ["picture", "text", "label", "order"])
def test_the_fingerprint_is_that_of_the_content(
    make_config: Make, tmp_path: Path, png: Callable[..., bytes], change: str
) -> None:
    """The changed picture has the name and the size of the old one: what follows the end of a PNG is ignored."""
    padded = [png(seed).ljust(20_000, b"\0") for seed in range(9)]
    rows: list[dict[str, object]] = [
        {"image": padded[row], "text": f"{row}", "label": "ab"[row % 2]} for row in range(8)
    ]
    config = make_config(data=dict.fromkeys(SPLITS, write_csv(tmp_path, rows)), missing={})
    before, source = load_data(config), tmp_path / "rows.csv"

    if change == "picture":
        (tmp_path / "3.png").write_bytes(padded[8])
    elif change == "text":
        source.write_text(source.read_text().replace(",3,", ",x,"))
    elif change == "label":
        source.write_text(source.read_text().replace(",3,b", ",3,a"))
    else:
        source.write_text("\n".join(sorted(source.read_text().split(), reverse=True)))

    after = load_data(config)
    assert after.fingerprint != before.fingerprint
    assert not after.has_fingerprint(before.fingerprint)


def test_the_fingerprint_does_not_depend_on_names_or_on_the_form_of_the_source(
    make_config: Make, tmp_path: Path, png: Callable[..., bytes]
) -> None:
    rows: list[dict[str, object]] = [{"image": png(row), "text": f"{row}", "label": "ab"[row % 2]} for row in range(8)]
    fingerprints = set()
    for write in (write_csv, write_jsonl, write_parquet):
        (tmp_path / write.__name__).mkdir()
        source = write(tmp_path / write.__name__, rows)
        fingerprints.add(load_data(make_config(data=dict.fromkeys(SPLITS, source), missing={})).fingerprint)

    assert len(fingerprints) == 1


def test_the_data_of_an_earlier_run_is_known_by_its_old_fingerprint(
    make_config: Make, tmp_path: Path, png: Callable[..., bytes]
) -> None:
    """Worked out by hand: earlier versions took a file of an image by its name and size."""
    rows: list[dict[str, object]] = [{"image": png(row), "text": f"{row}", "label": "ab"[row % 2]} for row in range(3)]
    data = load_data(make_config(data=dict.fromkeys(SPLITS, write_csv(tmp_path, rows)), missing={}))
    digest = hashlib.sha256()
    for row in range(3):
        for part in (f"{row}.png {len(png(row))}", f"{row}", "ab"[row % 2]):
            digest.update(len(part).to_bytes(8, "little") + part.encode())
    old = hashlib.sha256((3 * digest.hexdigest()).encode()).hexdigest()

    assert data.has_fingerprint(old)
    assert data.fingerprint != old
    assert not data.has_fingerprint("0" * 64)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_whose_image_is_an_object_without_bytes_and_path_are_refused(
    make_config: Make, tmp_path: Path, suffix: str
) -> None:
    rows: list[dict[str, object]] = [
        {"image": {"src": "a.png"} if number < 2 else None, "text": f"text {number}", "label": number % 2}
        for number in range(40)
    ]
    source = write_rows(tmp_path / f"a{suffix}", rows)

    with pytest.raises(DataError, match=r"rows 1, 2: image is an object with 'src'; it needs bytes or path"):
        load_split("train", str(source), make_config())


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_multi_hot_label_lists_are_refused(make_config: Make, tmp_path: Path, suffix: str) -> None:
    source = write_labels(
        tmp_path / f"a{suffix}", [[int(number % 3 == label) for label in range(3)] for number in range(60)]
    )
    config = make_config(problem="multi_label", data={"train": str(source), "image": None}, missing={})

    with pytest.raises(DataError, match=r"\(train\): column label has lists such as \[1, 0, 0\]"):
        load_data(config)


def test_a_label_that_training_writes_as_another_number_is_named(make_config: Make, tmp_path: Path) -> None:
    train = write_labels(tmp_path / "train.csv", ["1.0", "2.0"] * 20)
    validation = write_labels(tmp_path / "validation.csv", ["1", "2"] * 5)
    data = {"train": str(train), "validation": str(validation), "image": None}

    with pytest.raises(DataError, match=r"label '1' is not among the 2 labels of the task, which have '1\.0'"):
        load_data(make_config(data=data, missing={}))
