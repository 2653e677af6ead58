"""A publisher on a disk that is full, and a disk whose power fails while it publishes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from model_store import CorruptError, Store, StoreError, blob_of
from tests.faults.store.test_store_writers import assert_whole
from tests.support.faults.mutation import dice
from tests.support.faults.power_loss import Disk
from tests.support.faults.publishers import PUBLISH, PUBLISH_BLINDLY, PUBLISH_UNSYNCED, command, save_drafts
from tests.support.faults.tracing import Change, changes, needs_strace, spread, trace
from tests.support.tiny import Shelf

STEP_BYTES = 64 * 1024
REPORT_BYTES = 1024 * 1024  # of a version, so that there are steps to take
ROOM_BYTES = 64 * 1024 * 1024
MOST_WRITTEN_BYTES = 10 * 1024 * 1024


class SmallDisk:
    """A tmpfs; `size_bytes` can change while it is mounted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mount(self, size_bytes: int, *options: str) -> None:
        choices = ",".join([*options, f"size={size_bytes}"])
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", choices, "tmpfs", str(self.path)], check=True, capture_output=True, text=True
        )

    def resize(self, size_bytes: int) -> None:
        self.mount(size_bytes, "remount")

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Not mounted yet; skips where that is not allowed."""
    disk = SmallDisk(tmp_path / "disk")
    disk.path.mkdir()
    try:
        disk.mount(STEP_BYTES)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error
        pytest.skip(f"a tmpfs cannot be mounted here, so no disk was full: {reason}")
    disk.unmount()
    yield disk
    if disk.path.is_mount():
        disk.unmount()


@pytest.fixture
def drafts(shelf: Shelf, tmp_path: Path) -> Path:
    """What publishes a version 2 of over a megabyte beside a small version 1."""
    shelf.publish()
    draft, report = shelf.draft(seed=2, backbone_seed=1), b"<p>" * (REPORT_BYTES // 3)
    draft = draft.replacing(report=blob_of(report))
    draft.blobs[blob_of(report).sha256] = report
    return save_drafts(tmp_path / "drafts", [draft])


def _disk_bytes(folder: Path) -> int:
    return sum(4096 * -(-path.stat().st_size // 4096) + 4096 for path in folder.rglob("*"))


def _publish_on(disk: SmallDisk, size_bytes: int, store: Store, drafts: Path, script: str):
    """The store on a disk of this size, and how publishing on it ended."""
    disk.mount(size_bytes)
    root = disk.path / "store"
    shutil.copytree(store.root, root)
    return Store(root), subprocess.run(command(script, Store(root), drafts), capture_output=True, text=True, timeout=60)


def test_publishing_on_a_full_disk_keeps_the_old_version(small_disk, shelf, drafts, counts, reliability):
    smallest = STEP_BYTES * -(-_disk_bytes(shelf.store.root) // STEP_BYTES)
    steps = 2 + _disk_bytes(drafts) // STEP_BYTES
    sizes = spread([smallest + step * STEP_BYTES for step in range(steps + 1)], counts(4, 1000))
    outcomes = []
    for size in sizes:
        store, done = _publish_on(small_disk, size, shelf.store, drafts, PUBLISH)
        outcomes.append(done.returncode)
        if done.returncode:
            assert done.stderr.splitlines()[-1].startswith("OSError: [Errno 28] No space left on device"), done.stderr
            assert list((store.root / ".staging").iterdir()) == []
        assert store.verify("fruit").version == (1 if done.returncode else 2)
        assert store.verify("fruit", 1).version == 1
        small_disk.resize(ROOM_BYTES)
        assert_whole(store)
        small_disk.unmount()

    too_small = outcomes.count(1)
    reliability(
        f"M4: publishing on full disks, {sizes[0] // 1024} to {sizes[-1] // 1024} KiB in steps of 64 KiB",
        "exit 1 and `No space left on device`; the old version verifies; with room, publishing goes on and collects",
        f"{too_small} of {len(sizes)} sizes too small, every store whole",
        0 < too_small < len(sizes) and outcomes == sorted(outcomes, reverse=True),
    )


def test_control_a_publisher_that_ignores_a_full_disk_is_found(small_disk, shelf, drafts, reliability):
    store, done = _publish_on(
        small_disk, _disk_bytes(shelf.store.root) + 4 * STEP_BYTES, shelf.store, drafts, PUBLISH_BLINDLY
    )

    assert done.returncode == 0
    with pytest.raises(CorruptError) as found:
        store.verify("fruit")
    what = "*control*: M4 with a publisher that does not notice errors of writing"
    reliability(what, "found: a corrupt load", f"refused, {found.value.reason}")


class Recording:
    """The system calls of one publisher, and the store as it was before."""

    def __init__(self, store: Store, drafts: Path, folder: Path, script: str) -> None:
        self.before = store.root
        root = folder / "store"
        shutil.copytree(store.root, root)
        done = trace(command(script, Store(root), drafts), folder / "log", content_bytes=MOST_WRITTEN_BYTES)
        assert done.returncode == 0, done.stderr
        self.root, self.calls = root, changes(folder / "log", root)

    def disk_after(self, calls: Sequence[Change]) -> Disk:
        disk = Disk(self.before, known_as=self.root)
        for call in calls:
            disk.apply(call)
        return disk


def _losses(
    recording: Recording, calls: Sequence[Change], lengths: Sequence[int], random_count: int, folder: Path
) -> tuple[int, list[str]]:
    """How many disks were looked at that lost power within the calls, and what a reader found wrong on them."""
    tried, problems = 0, []
    for length in lengths:
        disk = recording.disk_after(calls[:length])
        keeps: dict[str, Callable[[], bool]] = {"nothing": lambda: False, "everything": lambda: True}
        for number in range(random_count):
            chance = dice(length, number)
            keeps[f"some ({number})"] = lambda chance=chance: chance.random() < 0.5
        for name, keep in keeps.items():
            root = folder / f"{length}-{name}"
            disk.after_power_loss(root, keep)
            tried += 1
            try:
                version = Store(root).verify("fruit").version
                assert version == 2 or length < len(calls), "the new version, already reported, is lost"
                if name == "nothing":
                    assert_whole(Store(root))
            except (StoreError, AssertionError) as error:
                problems.append(f"after {length} calls {name} unsynced was kept: {error}")
            shutil.rmtree(root)
    return tried, problems


@pytest.fixture
def recorded(shelf: Shelf, tmp_path: Path) -> Callable[[str], Recording]:
    shelf.publish()
    drafts = save_drafts(tmp_path / "drafts", [shelf.draft(seed=2, backbone_seed=1)])
    return lambda script: Recording(shelf.store, drafts, tmp_path / "recording", script)


@needs_strace()
def test_a_power_loss_at_any_moment_leaves_the_old_version_or_the_new(recorded, tmp_path, counts, reliability):
    recording = recorded(PUBLISH)
    calls = recording.calls
    lengths = spread(range(len(calls) + 1), counts(25, 1000))
    tried, problems = _losses(recording, calls, lengths, counts(4, 20), tmp_path)

    reliability(
        f"M5: the power fails within the {len(calls)} system calls that publish; what was not synced may be lost",
        "the old version or the new, whole; the new one once publishing has returned; the next publisher goes on",
        f"{tried} disks after {len(lengths)} of {len(calls) + 1} prefixes, {len(problems)} without a whole version",
        not problems,
    )


@needs_strace()
def test_the_replay_of_all_calls_is_the_store_that_was_published(recorded, tmp_path):
    recording = recorded(PUBLISH)

    recording.disk_after(recording.calls).after_power_loss(tmp_path / "replayed", lambda: True)

    def content(root: Path) -> dict[str, bytes | None]:
        return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}

    assert content(tmp_path / "replayed") == content(recording.root)


@needs_strace()
def test_control_a_publisher_that_never_syncs_loses_a_version(recorded, tmp_path, reliability):
    recording = recorded(PUBLISH_UNSYNCED)
    tried, problems = _losses(recording, recording.calls, spread(range(len(recording.calls) + 1), 25), 4, tmp_path)

    reliability(
        "*control*: M5 with a publisher whose fsync does nothing",
        "found",
        f"{len(problems)} of {tried} disks",
        bool(problems),
    )


@needs_strace()
@pytest.mark.parametrize("forgotten", ["/live>", "/manifest.json>", "/version>", "/blobs/sha256>", "/tasks/fruit>"])
def test_control_a_missing_sync_loses_a_version(recorded, tmp_path, forgotten):
    recording = recorded(PUBLISH)
    calls = [call for call in recording.calls if not (call.call == "fsync" and forgotten in call.line)]

    assert len(calls) < len(recording.calls)
    assert _losses(recording, calls, range(len(calls) - 12, len(calls) + 1), 8, tmp_path)[1] != []
