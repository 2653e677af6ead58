"""The pictures of a folder by their content, and the files that are left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model_store.items.folders import Skipped, folder_rows
from tests.support.odd_pictures import encoded

HIDDEN, OTHER = "hidden files", "files that are no pictures"


def read(folder: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The paths of the pictures, and the paths of the other files by reason."""
    skipped = Skipped()
    return [row["image"] for row in folder_rows(folder, skipped.add)], skipped.paths


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "AVIF", "GIF"])
@pytest.mark.parametrize("name", ["1", "1.txt", "1.JPG", "1.jfif", "deep/er/1.dat", "1.jpg.part", "1.mp4"])
def test_content_makes_a_file_a_picture_not_its_name(tmp_path, file_format, name):
    path = tmp_path / "cat" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(encoded(file_format))

    assert folder_rows(tmp_path) == [{"image": f"cat/{name}", "label": "cat"}]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".DS_Store", HIDDEN),
        ("cat/._1.jpg", HIDDEN),
        ("Thumbs.db", OTHER),
        ("desktop.ini", OTHER),
        ("cat/notes.txt", OTHER),
        ("cat/metadata.csv", OTHER),
        ("1.mp4", OTHER),
        ("empty", OTHER),
    ],
)
def test_other_files_are_named_with_the_reason(tmp_path, name, reason):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(encoded("PNG"))
    (tmp_path / name).write_bytes(b"" if name == "empty" else b"some words")

    assert read(tmp_path) == (["cat/1.png"], {reason: [name]})


@pytest.mark.parametrize("folder", [".thumbs", "__MACOSX", "cat/.git"])
def test_a_hidden_folder_is_named_once(tmp_path, folder):
    for number in range(3):
        path = tmp_path / folder / "deep" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded("PNG"))

    assert read(tmp_path) == ([], {HIDDEN: [f"{folder}/"]})


@pytest.mark.parametrize("name", ["a.gif", "a.heic", "a.TIFF", "a.jpg"])
def test_a_name_of_a_picture_with_other_content_is_a_row_so_that_it_gets_an_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"some words")

    assert read(tmp_path) == ([name], {})


def test_links_are_followed_unless_they_loop(tmp_path):
    pets = tmp_path / "pets"
    (pets / "cat" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").write_bytes(encoded("PNG"))
    (pets / "dog").symlink_to("../elsewhere")
    (pets / "cat" / "2.png").symlink_to("../../elsewhere/1.png")
    (pets / "cat" / "deep" / "up").symlink_to("..")
    (pets / "cat" / "top").symlink_to(pets)
    (pets / "gone.png").symlink_to("nowhere")
    (pets / "self").symlink_to("self")
    os.mkfifo(pets / "pipe.png")

    assert read(pets) == (
        ["cat/2.png", "dog/1.png"],
        {
            "links to a folder above": ["cat/top/", "cat/deep/up/"],
            "files that are not regular": ["pipe.png"],
            "links that lead nowhere": ["gone.png", "self"],
        },
    )


def test_two_folders_that_link_to_each_other_end(tmp_path):
    for one, other in (("cat", "dog"), ("dog", "cat")):
        (tmp_path / one).mkdir()
        (tmp_path / one / "1.png").write_bytes(encoded("PNG"))
        (tmp_path / one / "other").symlink_to(f"../{other}")

    paths, skipped = read(tmp_path)

    assert paths == ["cat/1.png", "cat/other/1.png", "dog/1.png", "dog/other/1.png"]
    assert [*skipped] == ["links to a folder above"]


def test_a_folder_may_be_named_relative_to_the_current_one(tmp_path, monkeypatch):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(encoded("PNG"))
    (tmp_path / "notes.txt").write_text("some words")
    monkeypatch.chdir(tmp_path / "cat")

    for folder in (Path(".."), tmp_path, Path("../cat/..")):
        assert read(folder) == (["cat/1.png"], {OTHER: ["notes.txt"]})


def test_lines_count_the_files_and_name_the_first(tmp_path):
    skipped = Skipped()
    for number in range(12):
        skipped.add(f"{number}.txt", OTHER)
    skipped.add("caf\udce9\n.txt", HIDDEN)  # a name that is not UTF-8, and breaks the line

    names = ", ".join(f"{number}.txt" for number in range(10))
    assert skipped.lines("pets") == [
        f"left out of pets: {OTHER} (12): {names} and 2 more",
        f"left out of pets: {HIDDEN} (1): caf\ufffd\ufffd.txt",
    ]
