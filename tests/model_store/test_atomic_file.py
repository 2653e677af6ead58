"""Files that are there as a whole or not at all."""

from __future__ import annotations

import pytest

from model_store.atomic_file import atomic_file


def test_a_file_has_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.json", b"new")]


def test_a_file_that_fails_leaves_nothing(tmp_path):
    def write_half():
        with atomic_file(tmp_path / "a.json") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()

    assert not [*tmp_path.iterdir()]
