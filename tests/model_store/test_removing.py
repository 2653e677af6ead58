"""Removing from the store: garbage and old versions."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from model_store import (
    CorruptError,
    NotFoundError,
    Store,
    activate,
    collect_garbage,
    prune,
    publish,
    removing,
    rollback,
    withdraw,
)
from model_store.incoming import incoming_file
from model_store.publishing import seed
from tests.support.snapshot import contents, stored_blobs


def needed_blobs(store: Store) -> set[str]:
    manifests = [store.verify(task, version) for task in store.tasks() for version in store.versions(task)]
    return {blob.sha256 for manifest in manifests for blob in manifest.blobs()}


@pytest.fixture
def five(store, draft) -> Store:
    """A store with versions 1 to 5 of `fruit`, of which 5 is live."""
    for number in range(1, 6):
        publish(store, *draft(tail=f"version {number}"))
    return store


def test_garbage_is_unreferenced_blobs_and_abandoned_staging_only(store, draft):
    old, new = draft(tail="first"), draft(tail="second")
    publish(store, *old)
    publish(store, *new)
    shutil.rmtree(store.root / "tasks/fruit/1")
    left_behind = store.root / ".staging/0123"
    (left_behind / "version").mkdir(parents=True)
    (left_behind / "version/manifest.json").write_text("{")

    removed = collect_garbage(store)

    unneeded = {store.root / "blobs/sha256" / sha256 for sha256 in set(old.blobs) - set(new.blobs)}
    assert set(removed) == unneeded | {left_behind}
    assert stored_blobs(store) == set(new.blobs)
    assert not left_behind.exists()
    store.verify("fruit", 2)
    assert collect_garbage(store) == {}


def test_garbage_of_versions_that_are_not_live_is_kept(store, draft):
    for tail in ("first", "second"):
        publish(store, *draft(tail=tail))

    assert collect_garbage(store) == {}
    store.verify("fruit", 1)


def test_nothing_is_collected_while_a_manifest_cannot_be_read(store, draft):
    publish(store, *draft())
    publish(store, *draft("vegetables"))
    blobs = stored_blobs(store)
    (store.root / "tasks/fruit/1/manifest.json").write_text("{}")

    with pytest.raises(CorruptError, match=r"tasks/fruit/1/manifest\.json"):
        collect_garbage(store)

    assert stored_blobs(store) == blobs


@pytest.mark.parametrize(
    ("live", "keep", "versions"),
    [(5, 1, [4, 5]), (5, 2, [3, 4, 5]), (5, 4, [1, 2, 3, 4, 5]), (5, 99, [1, 2, 3, 4, 5]), (3, 1, [2, 3, 4, 5])],
)
def test_versions_below_the_live_one_are_removed_except_the_newest(five, live, keep, versions):
    activate(five, "fruit", live)
    removed = prune(five, keep)

    assert (five.live("fruit"), five.versions("fruit")) == (live, versions)
    assert [path for path in removed if path.parent.name == "fruit"] == [
        five.root / f"tasks/fruit/{number}" for number in range(1, 6) if number not in versions
    ]
    assert stored_blobs(five) == needed_blobs(five)
    assert list((five.root / ".staging").iterdir()) == []
    assert prune(five, keep) == {}


def test_the_sizes_are_those_of_the_removed_files(five):
    before = sum(len(content) for content in contents(five.root).values())

    removed = prune(five, 1)

    assert sum(removed.values()) == before - sum(len(content) for content in contents(five.root).values()) > 0
    assert all(removed.values())


def test_a_dry_run_removes_nothing_and_names_the_same(five):
    before = contents(five.root)

    planned = prune(five, 1, dry_run=True)

    assert contents(five.root) == before
    assert planned == prune(five, 1)


def test_one_task_or_every_task_is_pruned(five, draft):
    for number in range(3):
        publish(five, *draft("bread", tail=f"version {number}"))

    prune(five, 1, "bread")
    assert (five.versions("bread"), five.versions("fruit")) == ([2, 3], [1, 2, 3, 4, 5])
    prune(five, 1)
    assert (five.versions("bread"), five.versions("fruit")) == ([2, 3], [4, 5])
    assert stored_blobs(five) == needed_blobs(five)


def test_a_file_that_another_task_needs_stays(five, draft):
    manifest, blobs = draft("bread", tail="version 1")
    old = five.manifest("fruit", 1)
    publish(five, manifest.model_copy(update={"head": old.head}), blobs)

    prune(five, 1)

    assert five.verify("bread").head == old.head
    assert five.versions("fruit") == [4, 5]


def test_at_least_one_version_to_go_back_to_stays(five):
    with pytest.raises(ValueError, match="at least 1"):
        prune(five, 0)

    prune(five, 1)

    assert rollback(five, "fruit").version == 4
    assert prune(five, 1) == {}
    with pytest.raises(NotFoundError, match="no version before 4"):
        rollback(five, "fruit")


def test_a_task_without_a_live_version_keeps_every_version(five, draft):
    publish(five, *draft("bread"), make_live=False)
    withdraw(five, "fruit")

    assert prune(five, 1) == {}
    assert (five.versions("bread"), five.versions("fruit")) == ([1], [1, 2, 3, 4, 5])


def test_the_number_of_a_removed_version_is_not_used_again(five, draft):
    prune(five, 1)
    rollback(five, "fruit")
    shutil.rmtree(five.root / "tasks/fruit/5")

    assert publish(five, *draft()).version == 6


def test_a_removed_version_is_unknown(five, tmp_path):
    prune(five, 1)

    for use in (lambda: activate(five, "fruit", 1), lambda: five.verify("fruit", 1)):
        with pytest.raises(NotFoundError, match="no version 1; it has 4, 5"):
            use()
    assert seed(Store(tmp_path / "seeded"), five) == {"fruit": 5}
    assert seed(five, Store(tmp_path / "seeded")) == {"fruit": None}
    assert five.versions("fruit") == [4, 5]


def test_an_unknown_task_is_not_pruned(five):
    with pytest.raises(NotFoundError, match="no task bread"):
        prune(five, 1, "bread")


DAMAGE = {
    "a version that stays": lambda tasks: (tasks / "fruit/4/manifest.json").write_text("{}"),
    "the live version": lambda tasks: (tasks / "fruit/5/manifest.json").unlink(),
    "a version of another task": lambda tasks: (tasks / "bread/1/manifest.json").write_text("{}"),
    "the number of the live version": lambda tasks: (tasks / "fruit/live").write_text("newest\n"),
    "no live version": lambda tasks: (tasks / "fruit/live").write_text("7\n"),
    "a task that is a link": lambda tasks: (tasks / "link").symlink_to(tasks / "fruit"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_nothing_is_removed_while_what_decides_cannot_be_read(five, draft, damage):
    publish(five, *draft("bread"))
    DAMAGE[damage](five.root / "tasks")
    before = contents(five.root)

    with pytest.raises(CorruptError, match=r"^nothing was removed, because "):
        prune(five, 1, "fruit")

    assert contents(five.root) == before


def test_an_old_version_with_a_damaged_manifest_is_removed(five):
    (five.root / "tasks/fruit/1/manifest.json").write_text("{}")

    prune(five, 1)

    assert five.versions("fruit") == [4, 5]
    assert stored_blobs(five) == needed_blobs(five)


def test_what_killed_writers_and_transfers_left_is_removed(five):
    (five.root / ".staging/left").mkdir()
    for name in ("left", "used"):
        with incoming_file(five.root, name) as file:
            file.write(b"part")

    with incoming_file(five.root, "used"):
        removed = prune(five, 99)

    assert {path.relative_to(five.root) for path in removed} == {Path(".staging/left"), Path(".incoming/left")}
    assert five.versions("fruit") == [1, 2, 3, 4, 5]


def test_a_full_disk_does_not_keep_versions_from_being_removed(five, monkeypatch):
    make = os.mkdir

    def make_existing(path: Path, *rest: int) -> None:
        if not Path(path).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        make(path, *rest)

    monkeypatch.setattr(os, "mkdir", make_existing)
    with pytest.raises(OSError, match="No space left"):
        activate(five, "fruit", 4)

    prune(five, 1)

    assert five.versions("fruit") == [4, 5]


def test_the_removal_of_a_version_is_on_disk_before_its_files_are_removed(five, monkeypatch):
    events: list[str] = []
    unlink, rename = Path.unlink, Path.rename

    def record(name, real):
        def call(path: Path, *rest: object, **options: object) -> object:
            events.append(f"{name} {path.relative_to(five.root).parent}")
            return real(path, *rest, **options)

        return call

    monkeypatch.setattr(Path, "unlink", record("unlink", unlink))
    monkeypatch.setattr(Path, "rename", record("rename", rename))
    monkeypatch.setattr(removing, "sync_directory", lambda path: events.append(f"sync {path.relative_to(five.root)}"))

    prune(five, 1)

    stages = list(dict.fromkeys(events))
    assert stages == ["rename tasks/fruit", "sync tasks/fruit", "unlink blobs/sha256"]
    assert events[:4] == ["rename tasks/fruit"] * 3 + ["sync tasks/fruit"]
