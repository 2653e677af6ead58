"""Writing to the store.

Covers model_store.writing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from model_store import (
    CorruptError,
    NotFoundError,
    Store,
    StoreError,
    activate,
    blob_of,
    collect_garbage,
    prune,
    publish,
    publishing,
    rollback,
    withdraw,
    writing,
)
from model_store.publishing import seed
from model_store.store import MAX_MANIFEST_BYTES
from tests.support.snapshot import contents, stored_blobs


def test_a_published_version_is_live_and_equals_its_draft(store, draft):
    manifest, blobs = draft()

    published = publish(store, manifest, blobs)

    assert store.tasks() == ["fruit"]
    assert store.live("fruit") == published.version == 1
    assert store.verify("fruit") == published
    assert published.model_dump(exclude={"version"}) == manifest.model_dump()
    assert {blob.sha256: store.read(blob) for blob in published.blobs()} == blobs
    assert list((store.root / ".staging").iterdir()) == []


def test_versions_count_up_and_the_newest_is_live(store, draft):
    versions = [publish(store, *draft(tail=tail)).version for tail in ("first", "second", "third")]

    assert versions == store.versions("fruit") == [1, 2, 3]
    assert store.live("fruit") == 3


@pytest.mark.parametrize("live", [1, 2, 3])
def test_a_version_may_be_published_without_becoming_live(store, draft, live):
    for _ in range(3):
        publish(store, *draft())
    activate(store, "fruit", live)

    published = publish(store, *draft(tail="worse"), make_live=False)

    assert (published.version, store.live("fruit"), store.newest("fruit")) == (4, live, 4)
    assert store.verify("fruit", 4) == published
    assert publish(store, *draft(), make_live=False).version == 5
    assert activate(store, "fruit", 4) == published
    assert store.live("fruit") == 4


def test_a_first_version_that_does_not_become_live_can_be_activated(store, draft):
    published = publish(store, *draft(), make_live=False)

    assert store.live("fruit") is None
    assert activate(store, "fruit", 1) == published


@pytest.mark.parametrize("makes_live", [True, False])
def test_a_function_decides_under_the_lock_whether_a_version_becomes_live(store, draft, makes_live):
    publish(store, *draft())

    def decide() -> bool:
        with (store.root / ".lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert (store.live("fruit"), store.versions("fruit")) == (1, [1])
        return makes_live

    publish(store, *draft(tail="new"), make_live=decide)

    assert store.live("fruit") == (2 if makes_live else 1)


def test_a_number_is_not_used_again_after_its_folder_was_deleted(store, draft):
    for _ in range(2):
        publish(store, *draft())
    shutil.rmtree(store.root / "tasks/fruit/2")

    assert publish(store, *draft()).version == 3


def test_a_number_is_not_used_again_after_a_rollback_and_a_deletion(store, draft):
    """A bad version is rolled back and deleted. A client that pins its number must not get another model."""
    for _ in range(3):
        publish(store, *draft())
    rollback(store, "fruit")
    activate(store, "fruit", 1)
    for version in (2, 3):
        shutil.rmtree(store.root / f"tasks/fruit/{version}")

    assert publish(store, *draft()).version == store.live("fruit") == 4


@pytest.mark.parametrize("how", ["published", "added", "published and not activated before the process ended"])
def test_a_number_is_not_used_again_although_it_never_was_live(store, version, draft, tmp_path, monkeypatch, how):
    """A version that is refused or pulled may be pinned by clients, too, until it is deleted."""
    publish(store, *draft(tail="live"))
    other, _ = version
    if how == "published":
        publish(store, *draft(tail="worse"), make_live=False)
    elif how == "added":
        publish(other, *draft(tail="pulled"))
        (tmp_path / "files").mkdir()
        content = other.read_manifest("fruit", 2)[1]
        publishing.add_version(store, content, None, None, files_of(other, tmp_path / "files"))
    else:
        with monkeypatch.context() as killed:
            killed.setattr(publishing, "_set_live", lambda *arguments: None)
            publish(store, *draft(tail="killed"))
    assert (store.versions("fruit"), store.live("fruit")) == ([1, 2], 1)
    shutil.rmtree(store.root / "tasks/fruit/2")
    collect_garbage(store)

    assert publish(store, *draft(tail="another")).version == 3


@pytest.mark.parametrize("name", ["live", "newest"])
def test_a_number_is_not_used_again_after_the_file_that_does_not_record_it_was_damaged(store, draft, name):
    for _ in range(3):
        publish(store, *draft())
    activate(store, "fruit", 1) if name == "live" else (store.root / "tasks/fruit/newest").unlink()
    (store.root / "tasks/fruit" / name).write_text("?")
    shutil.rmtree(store.root / "tasks/fruit/3")

    activate(store, "fruit", 1)

    assert publish(store, *draft()).version == 4


def test_activating_repairs_a_damaged_newest_file(store, draft):
    for _ in range(2):
        publish(store, *draft())
    rollback(store, "fruit")
    (store.root / "tasks/fruit/newest").write_text("many\n")
    with pytest.raises(CorruptError, match="mora-store activate fruit VERSION"):
        publish(store, *draft())

    activate(store, "fruit", 2)

    assert publish(store, *draft()).version == 3


def test_an_unchecked_draft_writes_nothing_outside_the_store(store, draft):
    manifest, blobs = draft()
    for task in ("../evil", "../../evil", "/tmp/evil", "a/b", "", ".", "..", "evil\n"):  # noqa: S108
        with pytest.raises(ValidationError):
            publish(store, manifest.model_copy(update={"task": task}), blobs)

    assert not store.root.exists()
    assert not (store.root.parent / "evil").exists()


def test_a_number_that_another_entry_uses_is_skipped(store, draft):
    publish(store, *draft())
    (store.root / "tasks/fruit/7").write_text("not a version")

    assert publish(store, *draft()).version == 8


def test_entries_without_a_version_number_are_ignored(store, draft):
    publish(store, *draft())
    for name in ("0", "007", "-1", "1.0", "٣", "+2", "latest", "1e9"):
        (store.root / "tasks/fruit" / name).mkdir()

    assert store.versions("fruit") == [1]


def test_a_published_manifest_can_be_published_again_elsewhere(store, draft, tmp_path):
    for _ in range(3):
        published = publish(store, *draft())

    copied = publish(Store(tmp_path / "other"), published, draft().blobs)

    assert copied == published.model_copy(update={"version": 1})


def test_a_second_task_adds_only_its_own_blobs(store, draft):
    first, second = draft("fruit"), draft("vegetables")
    publish(store, *first)
    before = {path: path.stat().st_mtime_ns for path in (store.root / "blobs/sha256").iterdir()}

    own = {sha256: data for sha256, data in second.blobs.items() if sha256 not in first.blobs}
    publish(store, second.manifest, own)

    assert 0 < len(own) < len(second.blobs)
    assert stored_blobs(store) == set(first.blobs) | set(second.blobs)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    store.verify("fruit")
    store.verify("vegetables")


@pytest.mark.parametrize("field", ["labels", "config", "metrics"])
@pytest.mark.slow
def test_a_manifest_that_no_service_would_read_is_not_published(store, draft, field):
    publish(store, *draft())
    manifest, blobs = draft()
    filled = ["x" * 1000] * (MAX_MANIFEST_BYTES // 1000)
    changes = {
        "labels": {"labels": ("x" * MAX_MANIFEST_BYTES, *manifest.labels[1:])},
        "config": {"provenance": manifest.provenance.model_copy(update={"config": {"filled": filled}})},
        "metrics": {"metrics": {"test": {str(number): {} for number in range(MAX_MANIFEST_BYTES // 8)}}},
    }
    with pytest.raises(StoreError, match=r"bytes, more than 4,194,304; publish fewer labels"):
        publish(store, manifest.model_copy(update=changes[field]), blobs)
    assert store.versions("fruit") == [1] == [store.live("fruit")]


def test_publishing_without_a_required_blob_is_refused(store, draft):
    manifest, blobs = draft()
    publish(store, manifest, blobs)
    missing, _ = draft(tail="second")

    with pytest.raises(StoreError, match="neither given nor in the store"):
        publish(store, missing, {})

    assert store.versions("fruit") == [1]


def test_a_report_is_stored_verified_and_kept_like_any_other_blob(store, draft):
    manifest, blobs = draft()
    data = b"<!doctype html><title>fruit: training report</title>"
    report = blob_of(data)
    reported = manifest.model_copy(update={"report": report})
    with pytest.raises(StoreError, match="neither given nor in the store"):
        publish(store, reported, blobs)

    published = publish(store, reported, blobs | {report.sha256: data})

    assert published.report == report
    assert store.read(report) == data
    assert collect_garbage(store) == {}
    (store.root / "blobs/sha256" / report.sha256).write_bytes(data.replace(b"fruit", b"FRUIT"))
    with pytest.raises(CorruptError) as caught:
        store.verify("fruit")
    assert caught.value.reason == "sha256"


def test_content_that_differs_from_its_digest_is_refused(store, draft):
    manifest, blobs = draft()
    name = manifest.head.sha256

    with pytest.raises(StoreError, match="does not match its digest"):
        publish(store, manifest, blobs | {name: blobs[name] + b"!"})

    assert store.tasks() == []


def test_publishing_replaces_a_damaged_blob(store, draft):
    manifest, blobs = draft()
    publish(store, manifest, blobs)
    (store.root / "blobs/sha256" / manifest.head.sha256).write_bytes(b"damaged")

    publish(store, manifest, blobs)

    assert store.verify("fruit", 1).head == store.verify("fruit", 2).head


def test_rollback_returns_to_the_previous_version_and_stops_at_the_first(store, draft):
    for _ in range(3):
        publish(store, *draft())

    assert rollback(store, "fruit").version == store.live("fruit") == 2
    assert rollback(store, "fruit").version == store.live("fruit") == 1
    with pytest.raises(NotFoundError, match=r"no version before 1 .* activate fruit VERSION` takes any of: 1, 2, 3"):
        rollback(store, "fruit")
    assert publish(store, *draft()).version == store.live("fruit") == 4


def test_activate_refuses_a_damaged_version_and_keeps_the_live_one(store, draft):
    first = draft(tail="first")
    publish(store, *first)
    publish(store, *draft(tail="second"))
    (store.root / "blobs/sha256" / first.manifest.head.sha256).write_bytes(b"damaged")

    with pytest.raises(CorruptError):
        activate(store, "fruit", 1)
    with pytest.raises(CorruptError):
        rollback(store, "fruit")
    with pytest.raises(NotFoundError):
        activate(store, "fruit", 9)

    assert store.live("fruit") == 2


def test_activating_repairs_a_damaged_live_file(store, draft):
    publish(store, *draft())
    (store.root / "tasks/fruit/live").write_text("newest\n")

    activate(store, "fruit", 1)

    assert store.live("fruit") == 1


def test_a_withdrawn_task_is_not_live_until_it_is_activated(store, draft):
    for _ in range(3):
        publish(store, *draft())
    rollback(store, "fruit")

    assert withdraw(store, "fruit") == 2
    assert (store.live("fruit"), store.is_withdrawn("fruit"), store.versions("fruit")) == (None, True, [1, 2, 3])
    with pytest.raises(NotFoundError, match="already"):
        withdraw(store, "fruit")
    with pytest.raises(NotFoundError, match="not live"):
        rollback(store, "fruit")
    assert publish(store, *draft()).version == 4
    assert store.live("fruit") is None

    activate(store, "fruit", 2)
    assert (store.live("fruit"), store.is_withdrawn("fruit")) == (2, False)
    assert publish(store, *draft()).version == store.live("fruit") == 5


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_text("x")], ids=["gone", "damaged"]
)
def test_a_task_without_a_readable_live_can_be_withdrawn(store, draft, damage):
    publish(store, *draft())
    damage(store.root / "tasks" / "fruit" / "live")

    assert withdraw(store, "fruit") == 1
    assert store.live("fruit") is None
    activate(store, "fruit", 1)
    assert store.live("fruit") == 1


def test_a_task_that_does_not_exist_cannot_be_withdrawn(store, draft):
    publish(store, *draft())
    with pytest.raises(NotFoundError, match="no task"):
        withdraw(store, "bread")


@pytest.mark.parametrize("write", [activate, rollback, collect_garbage, prune], ids=lambda function: function.__name__)
def test_only_publish_makes_a_store(tmp_path, write):
    arguments = {activate: ("fruit", 1), rollback: ("fruit",), collect_garbage: (), prune: (1,)}[write]

    with pytest.raises(NotFoundError, match="no model store"):
        write(Store(tmp_path), *arguments)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("number", range(1, 9))  # four new blobs, the manifest, its digest, `newest` and `live`
def test_a_disk_that_fails_at_any_write_leaves_the_old_version(store, draft, monkeypatch, number, error):
    old = publish(store, *draft(tail="first"))
    write_whole = publishing.write_synced
    written: list[Path] = []

    def write(path: Path, data: bytes) -> None:
        written.append(path)
        if len(written) == number:
            write_whole(path, data[: len(data) // 2])
            raise OSError(error, os.strerror(error))
        write_whole(path, data)

    for module in (publishing, writing):
        monkeypatch.setattr(module, "write_synced", write)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        publish(store, *draft(tail="second"))
    monkeypatch.undo()

    assert caught.value.errno == error
    assert len(written) == number
    assert store.verify("fruit") == old
    assert list((store.root / ".staging").iterdir()) == []
    latest = publish(store, *draft(tail="third"))
    assert store.verify("fruit") == latest
    collect_garbage(store)
    for version in store.versions("fruit"):
        store.verify("fruit", version)


def test_files_are_synced_before_their_rename_and_folders_after_it(store, draft, monkeypatch):
    """Power loss at any point must find complete files only: file fsync < folder fsync < rename < folder fsync."""
    synced: list[str | None] = []  # one entry an event: the path synced, or None for a move
    moves: list[tuple[int, str, str]] = []  # position among the events, source, target
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def record_sync(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    def record_move(real):
        def move(source: Path, target: Path) -> Path:
            moves.append((len(synced), str(source), str(target)))
            synced.append(None)
            return real(source, target)

        return move

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "rename", record_move(rename))
    monkeypatch.setattr(Path, "replace", record_move(replace))

    manifest, blobs = draft()
    publish(store, manifest, blobs)

    targets = [Path(target).relative_to(store.root) for _, _, target in moves]
    assert {target.name for target in targets[:-3]} == set(blobs)
    assert targets[-3:] == [Path("tasks/fruit/newest"), Path("tasks/fruit/1"), Path("tasks/fruit/live")]
    for position, source, target in moves:
        assert source in synced[:position], f"{source} was moved before it was synced"
        assert str(Path(target).parent) in synced[position:], f"the folder of {target} was not synced after the move"
    last_blob, newest, version, live = (position for position, _, _ in moves[-4:])
    for name in ("manifest.json", "manifest.sha256"):
        assert any(path and path.endswith(f"/version/{name}") for path in synced[:version])
    assert str(store.root / "blobs/sha256") in synced[last_blob:version]
    for earlier, later in ((newest, version), (version, live)):
        assert str(store.root / "tasks/fruit") in synced[earlier:later]
    for folder in ("", "blobs", "tasks"):  # these name new folders
        assert str(store.root / folder) in synced[:version]


STATES = {
    "a newer version": lambda store, draft: [publish(store, *draft(tail=tail)) for tail in ("c", "d")],
    "a rollback": lambda store, draft: rollback(store, "fruit"),
    "a withdrawal": lambda store, draft: withdraw(store, "fruit"),
    "another version of this number": lambda store, draft: shutil.rmtree(store.root / "tasks/fruit/2"),
    "nothing": lambda store, draft: None,
}


@pytest.fixture
def source(tmp_path, draft):
    """A store whose live version of `fruit` is 2."""
    source = Store(tmp_path / "source")
    publish(source, *draft(tail="a"))
    publish(source, *draft(tail="b"))
    return source


@pytest.mark.parametrize("happened", STATES)
def test_a_task_of_the_store_is_not_seeded_again(tmp_path, draft, source, happened):
    store = Store(tmp_path / "seeded" / "store")
    assert seed(store, source) == {"fruit": 2}
    assert (store.live("fruit"), store.verify("fruit")) == (2, source.verify("fruit"))
    publish(store, *draft(tail="e"))
    STATES[happened](store, draft)
    before = contents(store.root)

    assert seed(store, source) == {"fruit": None}

    assert contents(store.root) == before


def test_a_seeded_version_keeps_its_number_and_its_signature(tmp_path, draft, source):
    signature = source.root / "tasks/fruit/2/manifest.sig"
    signature.write_bytes(b"s" * 64)

    seed(store := Store(tmp_path / "store"), source)

    files = ("2/manifest.json", "2/manifest.sha256", "2/manifest.sig", "live")
    for name in files:
        assert (store.root / "tasks/fruit" / name).read_bytes() == (source.root / "tasks/fruit" / name).read_bytes()
    assert store.newest("fruit") == 2


@pytest.mark.parametrize("damage", ["blob", "manifest.json", "live"])
def test_a_damaged_source_adds_no_task(tmp_path, source, damage):
    blob = source.root / "blobs/sha256" / source.manifest("fruit").head.sha256
    path = {"blob": blob, "manifest.json": source.root / "tasks/fruit/2/manifest.json"}.get(damage)
    (path or source.root / "tasks/fruit/live").write_bytes(b"damaged")
    store = Store(tmp_path / "store")

    with pytest.raises(CorruptError):
        seed(store, source)

    assert store.tasks() == []


def test_a_task_that_a_killed_publisher_left_empty_is_seeded(tmp_path, source):
    store = Store(tmp_path / "store")
    (store.root / "tasks" / "fruit").mkdir(parents=True)

    assert seed(store, source) == {"fruit": 2}
    assert seed(store, source) == {"fruit": None}


def test_only_what_is_live_is_seeded(tmp_path, draft, source):
    withdraw(source, "fruit")
    assert seed(store := Store(tmp_path / "store"), source) == {}
    assert store.tasks() == []


@pytest.fixture
def version(tmp_path, draft):
    """A version of another store: that store, and the arguments of `add_version` but for the blobs' files."""
    other = Store(tmp_path / "other")
    publish(other, *draft())
    return other, (other.read_manifest("fruit")[1], None, None)


def files_of(source: Store, folder: Path) -> dict[str, Path]:
    return {path.name: Path(shutil.copy(path, folder / path.name)) for path in (source.root / "blobs/sha256").iterdir()}


def test_an_added_version_keeps_its_number_and_is_not_live(store, version, tmp_path):
    other, arguments = version
    (tmp_path / "files").mkdir()

    manifest = publishing.add_version(store, *arguments, files_of(other, tmp_path / "files"))

    assert store.verify("fruit", 1) == manifest
    assert store.live("fruit") is None
    assert list((tmp_path / "files").iterdir()) == []
    assert publishing.add_version(store, *arguments, {}) == manifest


@pytest.mark.parametrize("lacking", ["all", "one"])
def test_a_version_without_a_blob_is_not_added(store, version, tmp_path, lacking):
    other, arguments = version
    (tmp_path / "files").mkdir()
    files = {} if lacking == "all" else dict([*files_of(other, tmp_path / "files").items()][1:])

    with pytest.raises(CorruptError, match="is missing"):
        publishing.add_version(store, *arguments, files)
    assert store.tasks() == [] or store.versions("fruit") == []


@pytest.mark.parametrize("change", ["another content", "a damaged manifest", "a file in its place"])
def test_a_version_that_is_here_is_never_replaced(store, version, draft, change):
    publish(store, *draft(tail="another"))
    folder = store.root / "tasks/fruit/1"
    if change == "a damaged manifest":
        (folder / "manifest.json").write_bytes(b"{}")
    elif change == "a file in its place":
        shutil.rmtree(folder)
        folder.write_bytes(b"")
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}

    with pytest.raises(StoreError):
        publishing.add_version(store, *version[1], {})
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before


def test_signatures_of_both_kinds_come_with_a_version_and_are_added_later(store, version, tmp_path, draft):
    other, (content, *_) = version
    (tmp_path / "files").mkdir()
    publishing.add_version(store, content, None, None, files_of(other, tmp_path / "files"))
    assert (store.signature("fruit", 1), store.openssf_signature("fruit", 1)) == (None, None)

    publishing.add_version(store, content, b"s" * 64, b"{}", {})
    publishing.add_version(store, content, b"t" * 64, b"[]", {})
    assert (store.signature("fruit", 1), store.openssf_signature("fruit", 1)) == (b"s" * 64, b"{}")

    seed(Store(tmp_path / "seeded"), activated(store))
    seeded = Store(tmp_path / "seeded")
    assert (seeded.signature("fruit", 1), seeded.openssf_signature("fruit", 1)) == (b"s" * 64, b"{}")


def activated(store: Store) -> Store:
    activate(store, "fruit", 1)
    return store
