"""Image folders: classes or splits, and every file that is left out is named."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.support.odd_pictures import encoded
from training.config import TaskConfig
from training.data.image_folders import split_folders
from training.data.splits import Split, load_data, load_split
from training.errors import DataError

Make = Callable[..., TaskConfig]


@pytest.fixture
def pets(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with a picture of its own at each path, and other files where a path begins with a minus."""
    made = itertools.count()

    def make(*paths: str) -> Path:
        for path in paths:
            file = tmp_path / "pets" / path.removeprefix("-")
            file.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.new("L", (9, 9), next(made))
            file.write_bytes(b"some words" if path.startswith("-") else encoded("PNG", picture))
        return tmp_path / "pets"

    return make


def pictures(folder: Path, split: Split) -> list[str]:
    """The paths of a split's pictures in the folder."""
    return sorted(item.image.relative_to(folder).as_posix() for item in split.items if isinstance(item.image, Path))


def some_of(*folders: str) -> list[str]:
    return [f"{folder}/{number}.png" for folder in folders for number in range(10)]


@pytest.mark.parametrize(
    "classes",
    [
        ("cat", "dog"),
        ("validation", "dog"),
        ("test", "train"),  # flat: these hold pictures, not classes
        ("train", "validation", "test"),
        ("dev", "val", "eval"),
        ("validation", "test/deep"),  # no folder for training
        ("train/deep", "test/deep", "cat"),  # another class beside them
        ("train/deep", "test"),  # not all hold folders
        ("test_images", "dev-boards"),
        ("data", "default"),
    ],
)
def test_a_class_may_have_any_name(make_config: Make, pets: Callable[..., Path], classes: tuple[str, ...]) -> None:
    paths = [*some_of(*classes), f"{classes[0]}/my_dev_test-validation.png", f"{classes[0]}/sub/test/deep.png"]
    folder = pets(*paths)

    split = load_split("train", str(folder), make_config())

    assert pictures(folder, split) == sorted(paths)
    assert {item.labels[0] for item in split.items} == {name.partition("/")[0] for name in classes}


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train", "validation", "test"], ["train", "validation", "test"]),
        (["train", "test"], ["train", "test"]),
        (["Train", "val"], ["train", "validation"]),
        (["training", "dev", "testing"], ["train", "validation", "test"]),
        (["train"], ["train"]),
    ],
)
def test_folders_of_classes_with_names_of_splits_are_splits(
    make_config: Make, pets: Callable[..., Path], names: list[str], splits: list[str]
) -> None:
    paths = [path for name in names for path in some_of(f"{name}/cat", f"{name}/dog")]
    folder = pets(*paths, "-README.md", f"-{names[0]}/notes.txt")

    data = load_data(make_config(data={"train": str(folder)}, missing={}))

    assert split_folders(str(folder)) == {split: folder / name for split, name in zip(splits, names, strict=True)}
    loaded = {name: pictures(folder, split) for name, split in data.splits().items()}
    assert sorted(path for split in loaded.values() for path in split) == sorted(paths)
    for split, name in zip(splits[1:], names[1:], strict=True):
        assert all(path.startswith(f"{name}/") for path in loaded[split])
    notes = "\n".join(data.notes)
    assert f"the folders of {folder} are splits, not classes: {'/, '.join(names)}/" in notes
    assert "what lies beside the splits (1): README.md" in notes
    assert "files that are no pictures (1): notes.txt" in notes


def test_a_split_folder_may_hold_metadata_in_place_of_folders(pets: Callable[..., Path]) -> None:
    folder = pets("train/1.png", "-train/metadata.csv", "test/1.png", "-test/metadata.jsonl")

    assert split_folders(str(folder)) == {"train": folder / "train", "test": folder / "test"}


def test_a_split_is_taken_from_a_folder_of_splits(make_config: Make, pets: Callable[..., Path]) -> None:
    folder = pets(*some_of("train/cat", "train/dog", "val/cat", "val/dog"))

    assert len(load_split("validation", str(folder), make_config()).items) == 20
    with pytest.raises(DataError, match=r"holds the splits train, validation, but no test; correct data\.test"):
        load_split("test", str(folder), make_config())
    data = load_data(
        make_config(data={"train": str(folder), "validation": str(folder), "test": str(folder / "val")}, missing={})
    )
    assert "because" not in "".join(data.notes)


def test_a_split_folder_that_the_configuration_replaces_is_named(make_config: Make, pets: Callable[..., Path]) -> None:
    folder = pets(*some_of("train/cat", "train/dog", "test/cat", "test/dog"))
    held_out = folder.parent / "held_out"
    (folder / "test").rename(held_out)
    pets(*some_of("test/cat"))

    config = make_config(data={"train": str(folder), "test": str(held_out)}, missing={})

    notes = "\n".join(load_data(config).notes)
    assert f"a split, because data.test is {held_out} (1): test/" in notes


@pytest.mark.parametrize("other", ["unlabeled", "extra/cat", "test"])
@pytest.mark.parametrize(
    ("train", "held_out", "split"), [("Train", "VAL", "validation"), ("training", "dev", "validation")]
)
def test_splits_beside_another_folder_are_refused(
    make_config: Make, pets: Callable[..., Path], train: str, held_out: str, split: str, other: str
) -> None:
    folder = pets(*some_of(f"{train}/cat", f"{train}/dog", f"{held_out}/cat", f"{held_out}/dog", other))

    beside = f"{other.partition('/')[0]}/"
    cure = f"set data.train to {folder / train} and data.{split} to {folder / held_out}, or move {beside} to another"
    with pytest.raises(DataError, match=re.escape(f"has the splits {train}/ and {held_out}/ beside {beside}; {cure}")):
        load_data(make_config(data={"train": str(folder)}, missing={}))


def test_splits_with_metadata_beside_another_folder_are_refused(pets: Callable[..., Path]) -> None:
    folder = pets("train/1.png", "-train/metadata.csv", "test/1.png", "-test/metadata.jsonl", "more/1.png")

    with pytest.raises(DataError, match="has the splits train/ and test/ beside more/"):
        split_folders(str(folder))


@pytest.mark.parametrize(
    ("folders", "among"),
    [
        (("training_set/cat", "training_set/dog", "test_set/cat", "test_set/dog"), "test_set, training_set"),
        (("train/cat", "train/dog", "unlabeled"), "train"),
        (("train/cat", "train/dog", "test"), "train"),
        (("bird", "cat", "dog"), None),
        (("cat/indoors", "dog/outdoors"), None),
    ],
)
def test_classes_that_hold_folders_as_splits_do_are_named(
    make_config: Make, pets: Callable[..., Path], folders: tuple[str, ...], among: str | None
) -> None:
    folder = pets(*some_of(*folders))

    notes = [note for note in load_data(make_config(data={"train": str(folder)}, missing={})).notes if "among" in note]

    assert len(notes) == (among is not None)
    if among is not None:
        label = among.partition(",")[0]
        assert notes[0].endswith(f"are the classes (cat, dog), set data.train to {folder / label}")
        assert f"the labels are the names of the folders in {folder}, among them {among};" in notes[0]


def test_two_folders_of_one_split_are_refused(make_config: Make, pets: Callable[..., Path]) -> None:
    folder = pets(*some_of("train/cat", "val/cat", "dev/cat"))

    with pytest.raises(DataError, match="has the folders dev and val, which are both validation; move"):
        load_split("train", str(folder), make_config())


@pytest.mark.parametrize(
    ("path", "content", "note"),
    [
        ("1.png", encoded("PNG"), "pictures that are in no folder, so have no class (1): 1.png"),
        (".DS_Store", b"", "hidden files (1): .DS_Store"),
        ("__MACOSX/cat/1.png", encoded("PNG"), "hidden files (1): __MACOSX/"),
        ("cat/Thumbs.db", b"db", "files that are no pictures (1): cat/Thumbs.db"),
        ("cat/deep/list.csv", b"a,b\n", "files that are no pictures (1): cat/deep/list.csv"),
        ("cat/cut.png", encoded("PNG")[:90], "pictures, each of which is damaged or cut short (1): cat/cut.png"),
        ("dog/cut.jpg", encoded("JPEG")[:-90], "pictures, each of which is damaged or cut short (1): dog/cut.jpg"),
        ("cat/1.gif", b"GIF89a", "pictures, each of which is damaged or cut short (1): cat/1.gif"),
        ("cat/1.bmp", b"BM6\0\0", "pictures, each of which is not a JPEG, PNG, WebP, AVIF or GIF file (1): cat/1.bmp"),
        ("cat/empty.jpg", b"", "pictures, each of which is not a JPEG, PNG, WebP, AVIF or GIF file (1): cat/empty.jpg"),
        ("bird/1.txt", b"some words", "folders without pictures (1): bird/"),
    ],
)
def test_what_is_left_out_is_counted_and_named(
    make_config: Make, pets: Callable[..., Path], path: str, content: bytes, note: str
) -> None:
    paths = [*some_of("cat", "dog"), "cat/deep/er/picture"]
    folder = pets(*paths)
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)

    split = load_split("train", str(folder), make_config())

    assert pictures(folder, split) == sorted(paths)
    assert f"left out of {folder}: {note}" in split.notes


def test_a_folder_of_tables_is_refused_with_the_file_to_name(make_config: Make, pets: Callable[..., Path]) -> None:
    folder = pets("-0.parquet", "-1.parquet")

    with pytest.raises(DataError, match=re.escape(f"has no rows; name a file in it, such as {folder / '0.parquet'}")):
        load_split("train", str(folder), make_config())


def test_a_second_metadata_file_is_named(make_config: Make, pets: Callable[..., Path]) -> None:
    folder = pets("1.png", "-metadata.jsonl")
    (folder / "metadata.csv").write_text("file_name,text,label\n1.png,red,x\n")

    split = load_split("train", str(folder), make_config())

    assert split.notes == (f"left out of {folder}: not read, because metadata.csv is (1): metadata.jsonl",)


def test_a_folder_without_classes_is_refused_with_what_it_holds(make_config: Make, pets: Callable[..., Path]) -> None:
    folder = pets("1.png", "-notes.txt")

    with pytest.raises(DataError, match=r"has no rows(.|\n)*in no folder, so have no class \(1\): 1\.png"):
        load_split("train", str(folder), make_config())


@pytest.mark.parametrize("listed", ["cat/1.png", "./cat/1.png", " cat/1.png "])
def test_pictures_that_the_metadata_does_not_list_are_named(
    make_config: Make, pets: Callable[..., Path], listed: str
) -> None:
    folder = pets("cat/1.png", "cat/2.png", "3.png")
    (folder / "metadata.csv").write_text(f"file_name,text,label\n{listed},red,x\n")

    split = load_split("train", str(folder), make_config())

    assert len(split.items) == 1
    assert split.notes == (f"left out of {folder}: pictures that metadata.csv does not list (2): 3.png, cat/2.png",)


def test_a_folder_whose_name_begins_with_a_space_is_read_itself(make_config: Make, pets: Callable[..., Path]) -> None:
    paths = some_of("cats", " cats", "data:dogs", "dogs ")
    folder = pets(*paths)

    split = load_split("train", str(folder), make_config())

    assert pictures(folder, split) == sorted(paths)
    assert len({item.picture for item in split.items}) == 40
    assert {item.labels[0] for item in split.items} == {"cats", "data:dogs", "dogs"}


def test_a_folder_with_one_label_is_refused_with_the_pictures_left_out(
    make_config: Make, pets: Callable[..., Path]
) -> None:
    folder = pets(*some_of("dogs"), "cats/0.png")
    (folder / "cats" / "0.png").write_bytes(b"no picture")

    with pytest.raises(DataError, match=r"only the label 'dogs'(.|\n)*\(1\): cats/0\.png"):
        load_data(make_config(data={"train": str(folder)}, missing={}))
