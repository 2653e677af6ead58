"""Files that appear once they are complete."""

from __future__ import annotations

import pytest

from model_store.atomic_file import atomic_file


def test_a_complete_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.json", b"new")]


def test_an_interrupted_write_leaves_no_file(tmp_path):
    def write_half():
        with atomic_file(tmp_path / "a.json") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()

    assert not [*tmp_path.iterdir()]
