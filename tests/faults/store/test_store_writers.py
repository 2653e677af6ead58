"""Publishers that are killed, that meet a failing disk, and many at once; readers and a service look on.

tests/model_store/test_processes.py kills at every change that Python itself reports; here the kernel's calls count.
"""

from __future__ import annotations

import shutil
import sys
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from model_store import Store, collect_garbage, prune, publish
from tests.support.faults.asking import label
from tests.support.faults.publishers import KILL_AT_RANDOM, PUBLISH, command, output_of, save_drafts, start
from tests.support.faults.tracing import Change, changes, needs_strace, spread, trace, what_a_power_cut_could_lose
from tests.support.snapshot import stored_blobs
from tests.support.tiny import Shelf, TinyTask, make_draft
from tests.support.waiting import eventually

MORA_STORE = [sys.executable, "-c", "from model_store.cli import app; app()"]


@pytest.fixture
def drafts(shelf: Shelf, tmp_path: Path) -> Path:
    return save_drafts(
        tmp_path / "drafts", [shelf.draft(seed=2, backbone_seed=1), shelf.draft(seed=3, backbone_seed=1)]
    )


def assert_whole(store: Store) -> None:
    """Every version verifies, publishing goes on, and what was left behind is collected."""
    before = store.versions("fruit")
    for version in before:
        store.verify("fruit", version)
    draft = make_draft(TinyTask(seed=4))
    assert publish(store, draft.manifest, draft.blobs).version == max(before) + 1
    collect_garbage(store)
    assert list((store.root / ".staging").iterdir()) == []
    for version in store.versions("fruit"):
        store.verify("fruit", version)


def test_publishers_killed_at_random_under_a_reader_and_a_service(shelf, drafts, server, counts, reliability):
    kills = counts(15, 200)
    shelf.publish()
    running = server(shelf.store)
    reads = []
    with start(KILL_AT_RANDOM, shelf.store, drafts, kills) as publisher:
        while publisher.poll() is None:
            reads.append(shelf.store.verify("fruit").version)
        assert output_of(publisher) == "." * kills
    live = shelf.store.live("fruit")
    eventually(lambda: label(running)["version"] == live)
    refused = running.metric('mora_model_loads_total{result="refused",task="fruit"}')
    left_behind = len(list((shelf.store.root / ".staging").iterdir()))
    assert_whole(shelf.store)

    assert reads == sorted(reads)
    assert live > 1, "no publisher lived long enough to publish"
    reliability(
        "a publisher is killed (SIGKILL) at a random moment while a reader and a service follow the store",
        "0 corrupt loads; what it leaves behind is collected",
        f"{kills} kills, {live - 1} versions, {len(reads)} reads and {refused:.0f} of the service's loads refused, "
        f"{left_behind} leftovers collected",
        reached=refused == 0,
    )


def test_four_publishers_at_once_beside_a_collector_and_a_service(shelf, drafts, server, counts, reliability):
    each = counts(3, 200)
    shelf.publish()
    running = server(shelf.store)
    seen = []
    with ExitStack() as stack:
        publishers = [stack.enter_context(start(PUBLISH, shelf.store, drafts, each)) for _ in range(4)]
        while any(publisher.poll() is None for publisher in publishers):
            seen += [shelf.store.verify("fruit").version for _ in range(10)]
            collect_garbage(shelf.store)
        for publisher in publishers:
            output_of(publisher)

    assert seen == sorted(seen)
    assert shelf.store.versions("fruit") == list(range(1, 4 * each + 2))
    eventually(lambda: label(running)["version"] == 4 * each + 1)
    refused = running.metric('mora_model_loads_total{result="refused",task="fruit"}')
    assert_whole(shelf.store)
    reliability(
        "4 concurrent publishers beside continuous garbage collection, a reader and a service",
        "every version has a number of its own; 0 corrupt loads",
        f"{4 * each} versions numbered without a gap, {len(seen)} reads, {refused:.0f} loads refused",
        reached=refused == 0,
    )


class Trial:
    """A writer, each time on a fresh copy of the same store."""

    def __init__(self, store: Store, folder: Path, line: Callable[[Store], list[str]]) -> None:
        self._store, self._folder, self._line = store, folder, line
        self.log = folder / "log"
        self.calls = self.run("nothing")[1]

    @property
    def switch(self) -> int:
        """The place of the call that moves `live`."""
        return next(place for place, call in enumerate(self.calls) if call.moves_to("/tasks/fruit/live"))

    def is_before(self, call: Change) -> bool:
        """Whether `live` has not moved yet where this call fails."""
        return self.calls.index(call) <= self.switch

    @property
    def that_matter(self) -> list[Change]:
        """The calls that it cannot do without: not what finds its folder made already, nor what tidies up."""
        return [call for call in self.calls if "EEXIST" not in call.line and call.call not in ("unlinkat", "rmdir")]

    def run(self, name: str, inject: str | None = None):
        """The store afterwards, the calls that changed it, and how the process ended."""
        root = self._folder / name.replace(":", "-") / "store"
        shutil.copytree(self._store.root, root)
        done = trace(self._line(Store(root)), self.log, inject)
        return Store(root), changes(self.log, root), done

    def inject(self, call: Change, fault: str):
        store, made, done = self.run(f"{call.call}-{call.number}-{fault}", f"{call.call}:{fault}:when={call.number}")
        assert [(one.call, one.number) for one in made[: self.calls.index(call) + 1]] == [
            (one.call, one.number) for one in self.calls[: self.calls.index(call) + 1]
        ], "the fault met another call than was meant"
        return store, done


@pytest.fixture
def publishing(shelf: Shelf, drafts: Path, tmp_path: Path) -> Trial:
    shelf.publish()
    return Trial(shelf.store, tmp_path / "trials", lambda store: command(PUBLISH, store, drafts))


@needs_strace()
@pytest.mark.slow
def test_a_publisher_killed_at_any_call_that_changes_the_store(publishing, counts, reliability):
    around = publishing.calls[publishing.switch : publishing.switch + 2]
    trials = spread(publishing.calls, counts(5, 1000), around)
    lives = []
    for call in trials:
        store, done = publishing.inject(call, "signal=KILL")
        assert done.returncode == -9, done.stderr
        lives.append((store.verify("fruit").version, 1 if publishing.is_before(call) else 2))
        assert_whole(store)

    wrong = [found for found, expected in lives if found != expected]
    reliability(
        f"a publisher is killed on entering one of the {len(publishing.calls)} system calls that change the store",
        "the old version until `live` is renamed, the new one after",
        f"{len(trials)} calls tried, {len(wrong)} left anything else live",
        reached=not wrong,
    )


@needs_strace()
@pytest.mark.slow
def test_a_disk_error_at_any_call_of_a_publisher_leaves_a_whole_store(publishing, counts, reliability):
    calls = spread(publishing.that_matter, counts(4, 1000))
    trials = [(call, error) for call in calls for error in ("ENOSPC", "EIO")]
    lives = []
    for call, error in trials:
        store, done = publishing.inject(call, f"error={error}")
        assert done.returncode == 1, f"{call.line}: {done.stderr}"
        assert "OSError: [Errno " in done.stderr.splitlines()[-1]
        assert list((store.root / ".staging").iterdir()) == []
        lives.append((store.verify("fruit").version, 1 if publishing.is_before(call) else 2))
        assert_whole(store)

    wrong = [found for found, expected in lives if found != expected]
    reliability(
        "a system call of a publisher that changes the store fails with ENOSPC or EIO",
        "it exits with 1; the old version stays until `live` is renamed; nothing is left in staging",
        f"{len(trials)} failures, {len(wrong)} left anything else live",
        reached=not wrong,
    )


@needs_strace()
def test_a_disk_error_at_any_call_of_a_rollback_is_one_line(shelf, tmp_path, counts, reliability):
    for seed in (1, 2):
        shelf.publish(seed=seed)
    trial = Trial(
        shelf.store, tmp_path / "trials", lambda store: [*MORA_STORE, "rollback", "fruit", "--store", str(store.root)]
    )
    calls = spread(trial.that_matter, counts(3, 1000))
    lives = []
    for call in calls:
        store, done = trial.inject(call, "error=ENOSPC")
        assert done.returncode == 1, f"{call.line}: {done.stderr}"
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "No space left on device" in done.stderr
        lives.append((store.verify("fruit").version, 2 if trial.is_before(call) else 1))

    wrong = [found for found, expected in lives if found != expected]
    reliability(
        "a system call of `mora-store rollback` fails with ENOSPC",
        "one line of error; the live version stays until `live` is renamed",
        f"{len(calls)} failures, {len(wrong)} left anything else live",
        reached=not wrong,
    )


@pytest.fixture
def pruning(shelf: Shelf, tmp_path: Path) -> Trial:
    """Removes versions 1 and 2 of 4. Version 1 of another task needs the same files as version 1."""
    for seed in (1, 2, 3, 4):
        shelf.publish(seed=seed)
    shelf.publish("tags")
    return Trial(
        shelf.store,
        tmp_path / "trials",
        lambda store: [*MORA_STORE, "prune", "--keep", "1", "--store", str(store.root)],
    )


def assert_pruned_again(store: Store) -> None:
    """The live version and the one before it are there, and the next prune removes everything that is old."""
    assert (store.live("fruit"), store.versions("fruit")[-2:]) == (4, [3, 4])
    for task in store.tasks():
        for version in store.versions(task):
            store.verify(task, version)
    prune(store, 1)
    assert store.versions("fruit") == [3, 4]
    needed = {
        blob.sha256 for task in store.tasks() for n in store.versions(task) for blob in store.verify(task, n).blobs()
    }
    assert stored_blobs(store) == needed
    assert_whole(store)


@needs_strace()
def test_a_prune_that_is_killed_at_any_call_leaves_each_version_whole_or_gone(pruning, counts, reliability):
    moves = [call for call in pruning.calls if call.call.startswith("rename")]
    assert [Path(call.paths[-2]).name for call in moves] == ["1", "2"]
    trials = spread(pruning.calls, counts(6, 1000), [pruning.calls[pruning.calls.index(moves[-1]) + 1]])
    for call in trials:
        store, done = pruning.inject(call, "signal=KILL")
        assert done.returncode == -9, done.stderr
        assert_pruned_again(store)

    reliability(
        f"`mora-store prune` is killed on entering one of the {len(pruning.calls)} system calls that change the store",
        "each version is whole or gone; the live one and those that stay are whole; the next prune goes on",
        f"{len(trials)} calls tried, 0 left a damaged version",
    )


@needs_strace()
@pytest.mark.slow
def test_a_disk_error_at_any_call_of_a_prune_is_one_line(pruning, counts, reliability):
    calls = [call for call in pruning.calls if "EEXIST" not in call.line]
    trials = [(call, error) for call in spread(calls, counts(3, 1000)) for error in ("ENOSPC", "EIO")]
    for call, error in trials:
        store, done = pruning.inject(call, f"error={error}")
        assert done.returncode == 1, f"{call.line}: {done.stderr}"
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert_pruned_again(store)

    reliability(
        "a system call of `mora-store prune` fails with ENOSPC or EIO",
        "one line of error; each version is whole or gone; the next prune goes on",
        f"{len(trials)} failures, 0 left a damaged version",
    )


@needs_strace()
def test_a_prune_syncs_the_removal_of_versions_before_it_removes_files(pruning):
    stages = []
    for call in pruning.calls:
        if call.call.startswith("rename"):
            stages.append("version")
        elif call.call == "fsync" and call.paths[0].endswith("/tasks/fruit"):
            stages.append("sync")
        elif call.call.startswith("unlink") and "/blobs/sha256/" in call.line:
            stages.append("file")

    assert list(dict.fromkeys(stages)) == ["version", "sync", "file"]
    assert stages.count("sync") == 1
    assert not [call for call in pruning.calls if call.call.startswith("mkdir") and "EEXIST" not in call.line]


@needs_strace()
def test_files_and_folders_are_synced_before_renames(publishing, reliability):
    problems = what_a_power_cut_could_lose(publishing.calls)

    moves = [call for call in publishing.calls if call.call.startswith("rename")]
    stages = [Path(call.paths[-1]).parent.name for call in moves]
    assert stages == ["sha256"] * (len(moves) - 3) + ["fruit"] * 3
    assert moves[-1].moves_to("/live")
    reliability(
        "the order of a publisher's system calls, from strace",
        "file fsync < folder fsync < rename < folder fsync",
        f"{len(moves)} renames, {len(problems)} out of order",
        reached=not problems,
    )


@needs_strace()
@pytest.mark.parametrize("forgotten", ["/live>", "/manifest.json>", "/version>", "/blobs/sha256>", "/tasks/fruit>"])
def test_control_a_missing_sync_is_found(publishing, forgotten):
    calls = [call for call in publishing.calls if not (call.call == "fsync" and forgotten in call.line)]

    assert len(calls) < len(publishing.calls)
    assert what_a_power_cut_could_lose(calls) != []


def test_control_a_store_that_lost_a_blob_is_not_whole(shelf):
    manifest = shelf.publish()
    (shelf.store.root / "blobs/sha256" / manifest.head.sha256).unlink()

    with pytest.raises(Exception, match="is missing"):
        assert_whole(shelf.store)


def test_control_a_corrupt_load_is_counted_by_the_service(shelf, server):
    shelf.publish()
    running = server(shelf.store)
    (shelf.store.root / "tasks/fruit/live").write_text("7\n")

    eventually(lambda: running.metric('mora_model_loads_total{result="refused",task="fruit"}') == 1)
    with urllib.request.urlopen(f"{running.base}/livez", timeout=10) as response:
        assert response.status == 200
