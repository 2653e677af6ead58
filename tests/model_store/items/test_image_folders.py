"""Pictures beneath a folder."""

from __future__ import annotations

import os

from model_store.items.image_folders import folder_rows


def test_pictures_come_in_order_with_their_first_folder(tmp_path):
    for name in ("b/2.PNG", "b/1.jpeg", "a/deep/x.webp", "z.tif", ".thumbs/d.png", "a/.e.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()

    assert [(row["image"], row["label"]) for row in folder_rows(tmp_path)] == [
        ("a/deep/x.webp", "a"),
        ("b/1.jpeg", "b"),
        ("b/2.PNG", "b"),
        ("z.tif", None),
    ]
