"""A store that is moved, replaced, locked or half copied under a running service, and then mended."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from model_store import Store, rollback
from tests.faults.conftest import Running
from tests.faults.store.test_store_damage import point
from tests.support.faults.asking import get, label, refusal
from tests.support.faults.raw_http import events_named
from tests.support.sampling import each
from tests.support.tiny import Shelf
from tests.support.waiting import eventually, wait_until

AGE = "mora_store_seconds_since_read"
RECOVERY_SECONDS = 2


class Change(NamedTuple):
    """What happens to a store, and how it is mended.

    Attributes:
        shows: the reason of the refusal, or `store_unreadable` if the log says so and the metric grows.
    """

    shows: str
    make: Callable[[Path], object]
    mend: Callable[[Path], object]


def away(path: Path) -> Path:
    return path.rename(path.with_name("away"))


def back(path: Path) -> None:
    path.with_name("away").rename(path)


def without(name: str) -> Change:
    return Change("store_unreadable", lambda root: away(root / name), lambda root: back(root / name))


def replaced(make: Callable[[Path], object], name: str = "") -> Change:
    """The store, or a part of it, is moved away, and something else is put in its place."""

    def mend(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        back(path)

    return Change("store_unreadable", lambda root: (away(root / name), make(root / name)), mend)


def locked(name: str) -> Change:
    return Change("store_unreadable", lambda root: (root / name).chmod(0), lambda root: (root / name).chmod(0o755))


def pointed(shows: str, make: Callable[[Path], object]) -> Change:
    """The file `live` is changed; the mend is to write it anew."""

    def remove(root: Path) -> None:
        live = root / "tasks/fruit/live"
        if live.is_dir() and not live.is_symlink():
            live.rmdir()
        live.unlink(missing_ok=True)

    return Change(shows, lambda root: (remove(root), make(root / "tasks/fruit/live")), remove)


def half_copied(shows: str, spoil: Callable[[Path, Path], object]) -> Change:
    """Files of version 2 are still being copied when `live` names it; `spoil(file, copy)`."""

    def make(root: Path) -> None:
        for path in files_of_version_2(root):
            spoil(path, shutil.copy(path, root.with_name(f"copy-{path.name}")))
        point_to_2(root)

    def mend(root: Path) -> None:
        for copy in root.parent.glob("copy-*"):
            target = next(path for path in files_of_version_2(root) if path.name == copy.name.removeprefix("copy-"))
            copy.replace(target)

    return Change(shows, make, mend)


def files_of_version_2(root: Path) -> list[Path]:
    """The blobs that version 1 does not have."""
    first, second = (Store(root).manifest("fruit", version).blobs() for version in (1, 2))
    return [root / "blobs/sha256" / blob.sha256 for blob in second if blob not in first]


def point_to_2(root: Path) -> None:
    (root / "tasks/fruit/live").write_text("2\n")


def rsynced(path: Path, _: Path) -> None:
    """As rsync does: part of the content under a name of its own."""
    path.rename(path.with_name(f".{path.name}.Ab3xYz"))


CHANGES = {
    "the store is moved away": without(""),
    "the store is a file": replaced(Path.touch),
    "the store is an empty folder": replaced(Path.mkdir),
    "the store is another one without tasks": replaced(lambda root: (root / "tasks").mkdir(parents=True)),
    "the store is a dangling symlink": replaced(lambda root: root.symlink_to("nowhere")),
    "the folder of tasks is moved away": without("tasks"),
    "the folder of tasks is a file": replaced(Path.touch, "tasks"),
    "the store cannot be read": locked(""),
    "the folder of tasks cannot be read": locked("tasks"),
    "the folder of the task cannot be read": locked("tasks/fruit"),
    "live cannot be read": locked("tasks/fruit/live"),
    "live is removed": pointed("missing", lambda live: None),
    "live is empty": pointed("manifest", Path.touch),
    "live is a folder": pointed("link", Path.mkdir),
    "live is half written": pointed("manifest", lambda live: live.write_bytes(b"\0\0")),
    "live is a dangling symlink": pointed("link", lambda live: live.symlink_to("nowhere")),
    "blobs have the names of rsync": half_copied("missing", rsynced),
    "blobs are cut": half_copied("size", lambda path, _: os.truncate(path, path.stat().st_size // 2)),
    "blobs are zeros yet": half_copied("sha256", lambda path, _: path.write_bytes(bytes(path.stat().st_size))),
}
FEW_CHANGES = [  # of each way to fail, one
    "the store is moved away",
    "the folder of tasks is a file",
    "the folder of the task cannot be read",
    "live is removed",
    "live is half written",
    "blobs are cut",
]


@pytest.fixture
def store(shelf: Shelf):
    """Two versions, of which the first is live."""
    return two_versions(shelf)


def two_versions(shelf: Shelf) -> Store:
    shelf.publish(seed=1)
    shelf.publish(seed=2)
    rollback(shelf.store, "fruit")
    return shelf.store


class Followed(NamedTuple):
    """A service that follows a store."""

    root: Path
    running: Running


@pytest.fixture(scope="module")
def followed(tmp_path_factory, module_server, counts) -> Followed:
    """The tests that share it begin and end with version 1 live."""
    store = two_versions(Shelf(Store(tmp_path_factory.mktemp("followed") / "store")))
    return Followed(store.root, module_server(store, planted="obeys_permissions", poll_seconds=counts(0.25, 1)))


@pytest.mark.parametrize("name", each(CHANGES, tried=FEW_CHANGES))
@pytest.mark.slow
def test_answers_go_on_while_a_store_is_unusable_and_follow_it_once_it_is_mended(followed, counts, reliability, name):
    change, (root, running) = CHANGES[name], followed
    before, old_events = label(running), len(running.events)
    is_unreadable = change.shows == "store_unreadable"

    def events(name: str) -> list[dict]:
        return [event for event in running.events[old_events:] if event["event"] == name]

    change.make(root)
    eventually(lambda: events("store_unreadable" if is_unreadable else "model_refused"))
    if is_unreadable:
        eventually(lambda: running.metric(AGE) > counts(1, 3))
    else:
        time.sleep(counts(1, 2))
        assert refusal(running)["reason"] == change.shows
        assert running.metric(AGE) < counts(1, 2)
    assert label(running) == before
    assert get(running.base, "/readyz").status == 200

    change.mend(root)
    point(Store(root), 2)
    mended = time.monotonic()
    is_followed = wait_until(lambda: label(running)["version"] == 2)
    seconds = time.monotonic() - mended
    eventually(lambda: refusal(running) is None)
    eventually(lambda: len(events("store_read_again")) == is_unreadable)
    assert len(events("store_unreadable")) == is_unreadable
    assert len(events("model_refused")) <= 1, "a problem is logged once"
    point(Store(root), 1)
    eventually(lambda: label(running) == before)

    reliability(
        f"{name} for 2 s",
        f"answers go on; the log says so; {RECOVERY_SECONDS} s after the mend the version that is then live answers",
        f"version 2 after {seconds:.1f} s",
        is_followed and seconds <= counts(60, RECOVERY_SECONDS),
    )


AT_START = ["the store is a file", "the store cannot be read", "the folder of the task cannot be read"]


@pytest.mark.parametrize("name", each(AT_START, tried=AT_START[2:]))
def test_a_service_starts_on_an_unusable_store_and_answers_once_it_is_mended(store, server, name):
    CHANGES[name].make(store.root)
    running = server(store, planted="obeys_permissions")
    assert events_named(running, "store_unreadable")
    assert get(running.base, "/livez").status == 200
    assert get(running.base, "/readyz").code == "no_model"

    CHANGES[name].mend(store.root)

    eventually(lambda: get(running.base, "/readyz").status == 200)
    assert label(running)["version"] == 1
    eventually(lambda: events_named(running, "store_read_again"))


def test_answers_go_on_while_the_store_is_unmounted(store, server):
    root = store.root.with_name("mount")
    root.mkdir()
    mount = subprocess.run(["mount", "--bind", str(store.root), str(root)], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"nothing can be mounted here, so nothing was unmounted: {mount.stderr.strip()}")
    try:
        running = server(Store(root))
        before = label(running)
        subprocess.run(["umount", str(root)], check=True)
        eventually(lambda: events_named(running, "store_unreadable"))
        assert label(running) == before
    finally:
        if not root.is_mount():
            subprocess.run(["mount", "--bind", str(store.root), str(root)], check=True)
    try:
        point(store, 2)
        eventually(lambda: label(running)["version"] == 2)
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True)


SWAPS: dict[str, Callable[[Path, Path], object]] = {
    "a symlink is renamed over the one that names the store": lambda link, other: (
        link.with_name("next").symlink_to(other),
        link.with_name("next").replace(link),
    ),
    "the symlink is removed and made again": lambda link, other: (link.unlink(), link.symlink_to(other)),
    "the folders are renamed": lambda link, other: (away(link.resolve()), other.rename(link.resolve())),
}


@pytest.mark.parametrize("name", each(SWAPS, tried=["a symlink is renamed over the one that names the store"]))
def test_another_store_with_the_same_numbers_is_followed(tmp_path, server, name, reliability, counts):
    stores = [Shelf(Store(tmp_path / folder)) for folder in ("first", "second")]
    for seed, shelf in enumerate(stores, start=1):
        shelf.publish(seed=seed)
    stores[0].publish("tags")
    link = tmp_path / "current"
    link.symlink_to(stores[0].store.root)
    running = server(Store(link), poll_seconds=1)
    before, pinned = label(running), label(running, version=1)
    assert pinned["labels"] == before["labels"]

    SWAPS[name](link, stores[1].store.root)
    swapped = time.monotonic()
    is_followed = wait_until(lambda: label(running)["labels"] != before["labels"])
    seconds = time.monotonic() - swapped

    eventually(lambda: label(running, version=1)["labels"] == label(running)["labels"])
    eventually(lambda: get(running.base, "/tasks/tags").code == "unknown_task")
    reliability(
        f"a store is swapped for another with other content of the same number: {name}",
        f"the other content answers within {RECOVERY_SECONDS} s",
        f"after {seconds:.1f} s",
        is_followed and seconds <= counts(60, RECOVERY_SECONDS),
    )


@pytest.mark.parametrize("served", each(["the store", "the copy"], tried=["the copy"]))
@pytest.mark.slow
def test_a_store_with_a_hard_linked_copy_is_served(shelf, server, served):
    shelf.publish(seed=1)
    running = server(shelf.store)
    copy = shelf.store.root.with_name("copy")
    subprocess.run(["cp", "-al", str(shelf.store.root), str(copy)], check=True)
    second = shelf.publish(seed=2)
    eventually(lambda: label(running)["version"] == 2)
    assert refusal(running) is None

    again = server(shelf.store if served == "the store" else Store(copy))

    assert label(again)["version"] == (second.version if served == "the store" else 1)
    eventually(lambda: len(events_named(running, "model_loaded")) >= 2)
    assert len(events_named(running, "model_loaded")) == 2, "the copy changes nothing that is loaded"


REMOVALS: dict[str, Callable[[Path], object]] = {
    "removed": shutil.rmtree,
    "moved out of the store": lambda folder: folder.rename(folder.parents[1] / "tags"),
    "moved to another task": lambda folder: folder.rename(folder.with_name("other")),
}


@pytest.mark.parametrize("name", each(REMOVALS, tried=["removed"]))
@pytest.mark.parametrize("is_refused", [False, True], ids=["answering", "refused"])
@pytest.mark.slow
def test_a_removed_task_stops_answering_and_alarming(shelf, server, name, is_refused):
    shelf.publish("fruit")
    shelf.publish("tags")
    running = server(shelf.store)
    folder = shelf.store.root / "tasks/tags"
    if is_refused:
        (folder / "live").write_text("9\n")
        eventually(lambda: running.metric('mora_model_refused{task="tags"}') == 1)

    REMOVALS[name](folder)

    eventually(lambda: get(running.base, "/tasks/tags").code == "unknown_task")
    eventually(lambda: [event["task"] for event in events_named(running, "task_removed")] == ["tags"])
    page = get(running.base, "/metrics").body.decode()
    gauges = ("mora_model_info{", "mora_model_refused{", "mora_training_")
    assert [line for line in page.splitlines() if line.startswith(gauges) and 'task="tags"' in line] == []
    assert label(running)["version"] == 1
    assert running.metric(AGE) < 60

    shutil.rmtree(folder, ignore_errors=True)
    shelf.publish("tags", seed=3)
    eventually(lambda: get(running.base, "/tasks/tags").status == 200)


def test_the_last_task_can_be_removed(shelf, server):
    shelf.publish("fruit")
    running = server(shelf.store)

    shutil.rmtree(shelf.store.root / "tasks/fruit")

    eventually(lambda: get(running.base, "/readyz").code == "no_model")
    shelf.publish("fruit", seed=2)
    eventually(lambda: get(running.base, "/readyz").status == 200)


def test_a_task_that_cannot_be_read_does_not_keep_others_from_being_followed(shelf, server):
    for task in ("apples", "fruit", "tags"):
        shelf.publish(task)
    running = server(shelf.store, planted="obeys_permissions")
    folders = [shelf.store.root / "tasks" / task for task in ("apples", "tags")]
    for folder in folders:
        folder.chmod(0)
    eventually(lambda: events_named(running, "store_unreadable"))

    shelf.publish("fruit", seed=2)
    eventually(lambda: label(running)["version"] == 2)

    for folder in folders:
        folder.chmod(0o755)
    eventually(lambda: events_named(running, "store_read_again"))
