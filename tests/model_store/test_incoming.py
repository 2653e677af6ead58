"""Files of transfers that the store does not show yet."""

from __future__ import annotations

import fcntl
import threading

import pytest

from model_store import Store, StoreError, collect_garbage, publish
from model_store.incoming import abandoned_files, incoming_file, incoming_path


def test_a_file_keeps_what_an_earlier_transfer_left(tmp_path):
    with incoming_file(tmp_path / "store", "a") as file:
        file.write(b"first")
    with incoming_file(tmp_path / "store", "a") as file:
        assert file.read() == b"first"


def test_a_second_transfer_waits_and_gets_a_file_of_its_own_if_the_first_has_moved_it(tmp_path):
    contents, began = [], threading.Event()

    def second() -> None:
        began.set()
        with incoming_file(tmp_path, "a") as file:
            contents.append(file.read())

    thread = threading.Thread(target=second)
    with incoming_file(tmp_path, "a") as file:
        file.write(b"first")
        file.flush()
        thread.start()
        began.wait(30)
        thread.join(0.1)
        assert contents == [], "it waits"
        incoming_path(tmp_path, "a").rename(tmp_path / "moved")
    thread.join(30)

    assert contents == [b""]
    assert (tmp_path / "moved").read_bytes() == b"first"


def test_gc_removes_what_no_transfer_uses(store: Store, draft):
    publish(store, *draft())
    for name in ("left", "used"):
        with incoming_file(store.root, name) as file:
            file.write(b"part")
    (store.root / ".incoming/link").symlink_to("/etc/hostname")
    (store.root / ".incoming/folder").mkdir()

    with incoming_file(store.root, "used"):
        removed = collect_garbage(store)

    assert {path.name for path in removed if path.parent.name == ".incoming"} == {"left", "link", "folder"}
    assert [path.name for path in (store.root / ".incoming").iterdir()] == ["used"]


def test_a_file_in_use_is_not_abandoned(tmp_path):
    with incoming_file(tmp_path, "a"), abandoned_files(tmp_path) as abandoned:
        assert abandoned == []
    with abandoned_files(tmp_path) as abandoned, incoming_path(tmp_path, "a").open("rb") as file:
        assert abandoned == [incoming_path(tmp_path, "a")]
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_folder_is_refused(tmp_path, kind):
    path = tmp_path / ".incoming"
    path.symlink_to(tmp_path) if kind == "link" else path.write_bytes(b"")

    with pytest.raises((StoreError, OSError), match=r"symlink|Not a directory"), incoming_file(tmp_path, "a"):
        pass
    with abandoned_files(tmp_path) as abandoned:
        assert abandoned == []
