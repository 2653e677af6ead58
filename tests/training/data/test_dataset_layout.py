"""Data sets in their authors' layouts: read exactly, or refused with the files and the cure.

Covers training.data.arrow_files, training.data.benchmark_datasets.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pytest
from pydantic import ValidationError

from training.config import TaskConfig
from training.data.splits import Split, load_data
from training.errors import DataError

Make = Callable[..., TaskConfig]
NOT_UTF8 = pa.Array.from_buffers(pa.string(), 1, pa.array([b"caf\xe9"]).buffers())
Png = Callable[..., bytes]


def write(path: Path, content: bytes | object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def mmimdb(root: Path, png: Png) -> None:
    movies = {
        "0000001": (["A war film.", "Another plot, \u00e9crit."], ["War", "News", "Drama"]),
        "0000002": (["A song."], ["Music"]),
        "0000003": (["The news."], ["News"]),
        "0000004": (["  "], ["Drama"]),
        "0000005": (["Test."], ["Music", "War"]),
        "0000006": ([], ["War"]),
    }
    for number, (movie, (plots, genres)) in enumerate(movies.items()):
        write(root / "images" / f"{movie}.jpeg", png(number, format="JPEG"))
        write(root / "labels" / f"{movie}.json", {"plot": plots, "genres": genres, "title": "unused"})
    listing = {"train": ["0000002", "0000001", "0000003"], "dev": ["0000004"], "test": ["0000005", "0000006"]}
    write(root / "split.json", listing)


def food101(root: Path, png: Png) -> None:
    files = {
        "train": ["pizza_1.jpg", "hot_dog_2.jpg", "hot_dog_3.jpg", "pizza_9-2.jpg"],
        "val": ["pizza_4.jpg"],
        "test": ["hot_dog_5.jpg"],
    }
    for split, names in files.items():
        for name in names:
            folder = "test" if split == "test" else "train"
            write(root / "images" / folder / name.rpartition("_")[0] / name, png(1, format="JPEG"))
    write(root / "split.json", files)
    titles = {name: f"title of {name}" for names in files.values() for name in names if name != "hot_dog_3.jpg"}
    write(root / "text.json", titles)
    write(root / "class_idx.json", {"pizza": 0, "hot_dog": 1})


def food101_lists(root: Path, png: Png) -> None:
    for split, count in {"train": 6, "test": 1}.items():
        lines = ""
        for label in ("pizza", "hot_dog"):
            for i in range(count):
                write(root / "images" / split / label / f"{label}_{i}.jpg", png(i, format="JPEG"))
                lines += f'{label}_{i}.jpg,"{label}, the ""best"" {i}",{label}\n'
        write(root / "texts" / f"{split}_titles.csv", lines.encode())


def hateful_memes(root: Path, png: Png) -> None:
    for split, numbers in {"train": [1, 2], "dev": [3], "test": [4]}.items():
        memes = [{"id": n, "img": f"img/{n:05}.png", "text": f"text {n}", "label": n % 2} for n in numbers]
        write(root / f"{split}.jsonl", "".join(json.dumps(meme) + "\n" for meme in memes).encode())
        for number in numbers:
            write(root / "img" / f"{number:05}.png", png(number))


def arrow(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.RecordBatchFileWriter(sink, table.schema) as writer:
        writer.write_table(table)


def config_of(make: Make, data_format: str, root: Path, **fields: object) -> TaskConfig:
    labels = {"mmimdb": ("War", "Music", "Drama"), "food101": ("pizza", "hot_dog"), "hateful_memes": ("0", "1")}
    problem = "multi_label" if data_format == "mmimdb" else "single_label"
    defaults = {"labels": labels.get(data_format), "problem": problem, "missing": {}}
    return make(data={"format": data_format, "root": str(root)}, **{**defaults, **fields})


def seen(split: Split) -> list[tuple[str | None, str | None, tuple[str, ...]]]:
    return [(item.image.name if isinstance(item.image, Path) else None, item.text, item.labels) for item in split.items]


def test_mmimdb_has_a_row_for_each_plot_and_keeps_the_genres_of_the_task(
    make_config: Make, tmp_path: Path, png: Png
) -> None:
    mmimdb(tmp_path, png)

    data = load_data(config_of(make_config, "mmimdb", tmp_path))

    assert seen(data.train) == [
        ("0000002.jpeg", "A song.", ("Music",)),
        ("0000001.jpeg", "A war film.", ("War", "Drama")),
        ("0000001.jpeg", "Another plot, \u00e9crit.", ("War", "Drama")),
        ("0000003.jpeg", "The news.", ()),  # no genre of the task: no label
    ]
    assert [item.group for item in data.train.items] == [0, 1, 1, 2]
    assert seen(data.validation) == [("0000004.jpeg", None, ("Drama",))]  # a blank plot is a missing one
    assert seen(data.test) == [
        ("0000005.jpeg", "Test.", ("Music", "War")),
        ("0000006.jpeg", None, ("War",)),  # nor has a movie without plots a text
    ]
    assert "left out 2 genres that are not among the labels: News 2" in data.notes


def test_food101_takes_classes_from_file_names_and_validation_from_the_train_folder(
    make_config: Make, tmp_path: Path, png: Png
) -> None:
    food101(tmp_path, png)

    data = load_data(config_of(make_config, "food101", tmp_path))

    assert seen(data.train) == [
        ("pizza_1.jpg", "title of pizza_1.jpg", ("pizza",)),
        ("hot_dog_2.jpg", "title of hot_dog_2.jpg", ("hot_dog",)),
        ("hot_dog_3.jpg", None, ("hot_dog",)),
        ("pizza_9-2.jpg", "title of pizza_9-2.jpg", ("pizza",)),
    ]
    assert seen(data.validation) == [("pizza_4.jpg", "title of pizza_4.jpg", ("pizza",))]
    assert data.validation.items[0].image == tmp_path / "images" / "train" / "pizza" / "pizza_4.jpg"
    assert data.test.items[0].image == tmp_path / "images" / "test" / "hot_dog" / "hot_dog_5.jpg"
    assert "1 images have no title in text.json, so no text" in data.notes


def test_food101_by_its_lists_holds_validation_out_of_train(make_config: Make, tmp_path: Path, png: Png) -> None:
    food101_lists(tmp_path, png)

    data = load_data(config_of(make_config, "food101", tmp_path))

    assert len(data.train.items) + len(data.validation.items) == 12
    assert len(data.validation.items) == 2  # a tenth of each class, rounded
    assert {item.row for item in data.train.items}.isdisjoint(item.row for item in data.validation.items)
    assert seen(data.test) == [
        ("pizza_0.jpg", 'pizza, the "best" 0', ("pizza",)),
        ("hot_dog_0.jpg", 'hot_dog, the "best" 0', ("hot_dog",)),
    ]
    assert data.test.items[0].image == tmp_path / "images" / "test" / "pizza" / "pizza_0.jpg"


@pytest.mark.parametrize("folder", ["", "data"])
def test_hateful_memes_lie_at_the_root_or_under_data(make_config: Make, tmp_path: Path, png: Png, folder: str) -> None:
    hateful_memes(tmp_path / folder, png)

    data = load_data(config_of(make_config, "hateful_memes", tmp_path))

    assert seen(data.train) == [("00001.png", "text 1", ("1",)), ("00002.png", "text 2", ("0",))]
    assert seen(data.validation) == [("00003.png", "text 3", ("1",))]
    assert seen(data.test) == [("00004.png", "text 4", ("0",))]
    assert data.train.items[0].image == tmp_path / folder / "img" / "00001.png"


def test_arrow_files_of_movies_pair_an_image_with_each_plot(make_config: Make, tmp_path: Path, png: Png) -> None:
    rows = [
        {"image": png(1), "plots": ["one", "two", "one"], "label": [1, 0, 1], "genres": ["War", "Drama"]},
        {"image": png(2), "plots": [], "label": [0, 1, 0], "genres": ["Music"]},
        {"image": png(3), "plots": ["three"], "label": [0, 0, 0], "genres": []},
    ]
    for name, chosen in {"train": rows, "dev": rows[:1], "test": rows[2:]}.items():
        arrow(tmp_path / f"mmimdb_{name}.arrow", chosen)

    labels = ("War", "Music", "Drama")
    data = load_data(config_of(make_config, "arrow", tmp_path, problem="multi_label", labels=labels))

    assert [(item.group, item.image, item.text, item.labels) for item in data.train.items] == [
        (0, png(1), "one", ("War", "Drama")),
        (0, png(1), "two", ("War", "Drama")),
        (0, png(1), "one", ("War", "Drama")),
        (1, png(2), None, ("Music",)),
        (2, png(3), "three", ()),
    ]
    assert [item.text for item in data.validation.items] == ["one", "two", "one"]
    assert [item.text for item in data.test.items] == ["three"]


def test_arrow_labels_are_numbers_that_class_idx_or_the_task_names(make_config: Make, tmp_path: Path, png: Png) -> None:
    for name in ("train", "val", "test"):
        rows = [{"image": png(i), "text": [f"text {i}"], "label": i % 2} for i in range(4)]
        arrow(tmp_path / f"{name}.arrow", [*rows, {"image": png(9), "text": ["x"], "label": 1}])
    config = config_of(make_config, "arrow", tmp_path, labels=("hot_dog", "pizza"))

    by_task = load_data(config).train.items
    write(tmp_path / "class_idx.json", {"pizza": 0, "hot_dog": 1})
    by_class = load_data(config).train.items

    assert [item.labels[0] for item in by_task] == ["hot_dog", "pizza", "hot_dog", "pizza", "pizza"]
    assert [item.labels[0] for item in by_class] == ["pizza", "hot_dog", "pizza", "hot_dog", "hot_dog"]


def test_several_label_numbers_of_an_arrow_row_are_its_labels(make_config: Make, tmp_path: Path, png: Png) -> None:
    for name in ("train", "val", "test"):
        arrow(tmp_path / f"{name}.arrow", [{"image": png(1), "text": "x", "label": [2, 0]}])

    labels = ("a", "b", "c")
    data = load_data(config_of(make_config, "arrow", tmp_path, problem="multi_label", labels=labels))

    assert data.train.items[0].labels == ("c", "a")


def broken(root: Path, *names: str, content: bytes | None = None) -> None:
    for name in names:
        (root / name).unlink()
        if content is not None:
            (root / name).write_bytes(content)


def test_a_broken_movie_is_named_file_by_file(make_config: Make, tmp_path: Path, png: Png) -> None:
    mmimdb(tmp_path, png)
    broken(tmp_path, "images/0000001.jpeg", "labels/0000005.json")
    broken(tmp_path, "labels/0000002.json", content=b'{"plot": ["a"], ')
    broken(tmp_path, "labels/0000004.json", content=b'{"plot": "a", "genres": []}')

    with pytest.raises(DataError) as error:
        load_data(config_of(make_config, "mmimdb", tmp_path))

    message = str(error.value)
    assert "images/0000001.jpeg is missing" in message
    assert "labels/0000002.json is not JSON" in message
    assert "labels/0000004.json lacks a list `plot`" in message
    assert "labels/0000005.json is missing" in message
    assert "take these movies out of split.json" in message


def test_of_many_missing_files_ten_are_named(make_config: Make, tmp_path: Path) -> None:
    movies = [f"{n:07}" for n in range(13)]
    for movie in movies:
        write(tmp_path / "labels" / f"{movie}.json", {"plot": ["a"], "genres": ["War"]})
    write(tmp_path / "split.json", {"train": movies, "dev": [], "test": []})

    with pytest.raises(DataError) as error:
        load_data(config_of(make_config, "mmimdb", tmp_path))

    assert sum(".jpeg is missing" in line for line in str(error.value).splitlines()) == 10
    assert "and 3 more" in str(error.value)


def test_a_picture_that_cannot_be_decoded_is_named_once_for_all_its_plots(
    make_config: Make, tmp_path: Path, png: Png
) -> None:
    mmimdb(tmp_path, png)
    broken(tmp_path, "images/0000001.jpeg", content=b"no picture")

    with pytest.raises(DataError) as error:
        load_data(config_of(make_config, "mmimdb", tmp_path))

    assert str(error.value).count("images/0000001.jpeg") == 1
    assert str(error.value).endswith("is not a JPEG, PNG, WebP, AVIF or GIF file; replace the file")


@pytest.mark.parametrize(
    ("data_format", "make_tree", "gone", "says"),
    [
        ("mmimdb", mmimdb, ["split.json"], r"split\.json is missing(.|\n)*data\.root"),
        ("food101", food101, ["text.json"], r"text\.json is missing"),
        ("food101", food101, ["images/train/pizza/pizza_4.jpg"], r"images/train/pizza/pizza_4\.jpg is missing"),
        ("food101", food101_lists, ["texts/test_titles.csv"], r"test_titles\.csv cannot be read"),
        ("food101", food101_lists, ["images/test/pizza/pizza_0.jpg"], r"images/test/pizza/pizza_0\.jpg is missing"),
        (
            "hateful_memes",
            hateful_memes,
            ["dev.jsonl", "test.jsonl"],
            r"dev\.jsonl is missing\n.*test\.jsonl is missing",
        ),
        ("hateful_memes", hateful_memes, ["img/00002.png"], r"img/00002\.png' does not exist"),
    ],
)
def test_a_missing_file_is_named(
    make_config: Make,
    tmp_path: Path,
    png: Png,
    data_format: str,
    make_tree: Callable[..., None],
    gone: list[str],
    says: str,
) -> None:
    make_tree(tmp_path, png)
    broken(tmp_path, *gone)

    with pytest.raises(DataError, match=says):
        load_data(config_of(make_config, data_format, tmp_path))


@pytest.mark.parametrize(
    ("data_format", "make_tree", "name", "content", "says"),
    [
        ("mmimdb", mmimdb, "split.json", b"[]", r"split\.json is not a JSON object"),
        ("mmimdb", mmimdb, "split.json", b'{"train": [], "test": []}', "split.json has no list val or dev"),
        ("food101", food101, "class_idx.json", b'{"pizza": 0}', "hot_dog_2.jpg, whose name begins with no class"),
        (
            "food101",
            food101_lists,
            "texts/train_titles.csv",
            b"a.jpg,x\n",
            "line 1 has 2 cells, not file, title and class",
        ),
        ("food101", food101_lists, "texts/train_titles.csv", b"\xff\n", r"train_titles\.csv is not UTF-8 in line 1"),
        ("hateful_memes", hateful_memes, "dev.jsonl", b"{\n", r"dev\.jsonl cannot be read as jsonl: line 1"),
        ("hateful_memes", hateful_memes, "dev.jsonl", b'{"id": 1, "label": 0}\n', "no meme has a field img"),
        ("hateful_memes", hateful_memes, "dev.jsonl", b"", r"\(validation\) has no rows"),
    ],
)
def test_a_broken_file_is_named(
    make_config: Make,
    tmp_path: Path,
    png: Png,
    data_format: str,
    make_tree: Callable[..., None],
    name: str,
    content: bytes,
    says: str,
) -> None:
    make_tree(tmp_path, png)
    write(tmp_path / name, content)

    with pytest.raises(DataError, match=says):
        load_data(config_of(make_config, data_format, tmp_path))


def test_memes_without_labels_are_refused_with_the_release_that_has_labels(
    make_config: Make, tmp_path: Path, png: Png
) -> None:
    hateful_memes(tmp_path, png)
    memes = "".join(json.dumps({"id": n, "img": "img/00004.png", "text": "x"}) + "\n" for n in range(12))
    write(tmp_path / "test.jsonl", memes.encode())

    with pytest.raises(DataError) as error:
        load_data(config_of(make_config, "hateful_memes", tmp_path))

    message = str(error.value)
    assert "test.jsonl has 12 faults" in message
    assert "row 10 has no label\n  and 2 more" in message
    assert "test_seen.jsonl" in message


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "x", "label": 0}, "has no column image"),
        ({"image": b"", "text": "x", "label": 2}, "row 1 has label 2; the task has labels 0 to 1"),
        ({"image": b"", "text": "x", "label": "pizza"}, "row 1 has label 'pizza'"),
        ({"image": b"", "text": "x", "label": [[0], [1]]}, r"row 1 has label \[0\]"),
        ({"image": b"", "text": NOT_UTF8[0], "label": 0}, "cannot be read as an Arrow IPC file"),
        ({"image": b"no picture", "text": "x", "label": 0}, "row 1: image is not a JPEG, PNG, WebP, AVIF or GIF file"),
    ],
)
def test_an_unusable_arrow_file_is_refused_with_the_reason(
    make_config: Make, tmp_path: Path, row: dict[str, object], says: str
) -> None:
    for name in ("train", "val", "test"):
        arrow(tmp_path / f"{name}.arrow", [row])

    with pytest.raises(DataError, match=says):
        load_data(config_of(make_config, "arrow", tmp_path, labels=("a", "b")))


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        ([0, -1, None, 1], [("a",), ("b",)]),
        ([[0], [-1], [], [None]], [("a",), (), (), ()]),
        ([[1, 0, 0], [0, 0, 0], [2, 0], [2, -1]], [("a",), (), ("c", "a"), ("c",)]),
    ],
)
def test_a_number_below_0_and_an_empty_cell_are_no_label(
    make_config: Make, tmp_path: Path, cells: list[object], labels: list[tuple[str, ...]]
) -> None:
    for name in ("train", "val", "test"):
        arrow(tmp_path / f"{name}.arrow", [{"image": None, "text": "x", "label": cell} for cell in cells])
    problem = "multi_label" if isinstance(cells[0], list) else "single_label"

    data = load_data(config_of(make_config, "arrow", tmp_path, labels=("a", "b", "c"), problem=problem))

    assert [item.labels for item in data.train.items] == labels
    assert sum("no label" in note for note in data.notes) == 3


@pytest.mark.parametrize("cell", [[1, -1, 0], [1, None, 0], [-1, -1, -1]])
def test_a_list_of_zeros_and_ones_with_an_empty_cell_is_refused(
    make_config: Make, tmp_path: Path, cell: list[object]
) -> None:
    for name in ("train", "val", "test"):
        arrow(tmp_path / f"{name}.arrow", [{"image": None, "text": "x", "label": cell}])

    with pytest.raises(DataError, match="neither label numbers nor a 0 or 1 for every label"):
        load_data(config_of(make_config, "arrow", tmp_path, labels=("a", "b", "c"), problem="multi_label"))


def test_missing_damaged_and_duplicate_arrow_files_are_named(make_config: Make, tmp_path: Path, png: Png) -> None:
    config = config_of(make_config, "arrow", tmp_path, labels=("a", "b"))
    rows: list[dict[str, object]] = [{"image": png(1), "text": ["x"], "label": 0}]

    with pytest.raises(DataError, match=r"train\.arrow for train .* it holds none"):
        load_data(config)
    arrow(tmp_path / "train.arrow", rows)
    arrow(tmp_path / "mmimdb_train.arrow", rows)
    with pytest.raises(DataError, match=r"it holds train\.arrow, mmimdb_train\.arrow"):
        load_data(config)
    (tmp_path / "mmimdb_train.arrow").unlink()
    write(tmp_path / "train.arrow", b"no arrow")
    with pytest.raises(DataError, match=r"train\.arrow cannot be read as an Arrow IPC file"):
        load_data(config)


def test_arrow_labels_without_names_are_refused(make_config: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="list these under `labels`"):
        load_data(config_of(make_config, "arrow", tmp_path))
    write(tmp_path / "class_idx.json", {"a": 0, "b": 2})
    with pytest.raises(DataError, match="without a gap"):
        load_data(config_of(make_config, "arrow", tmp_path))


def test_a_root_that_is_not_a_folder_is_named(make_config: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone is not a folder; set data\.root"):
        load_data(config_of(make_config, "mmimdb", tmp_path / "gone"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "neither is given"),
        ({"train": "a.csv", "format": "mmimdb", "root": "x"}, "both are given"),
        ({"format": "mmimdb"}, "give both or neither"),
        ({"train": "a.csv", "root": "x"}, "give both or neither"),
        ({"format": "mmimdb", "root": "x", "test": "a.csv"}, r"remove data\.test"),
        ({"format": "mmimdb", "root": "x", "text": "plot"}, r"remove data\.text"),
        ({"format": "coco", "root": "x"}, "mmimdb"),
    ],
)
def test_a_source_is_either_files_or_a_format(make_config: Make, data: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        make_config(data=data)
