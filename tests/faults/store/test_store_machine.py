"""The store compared with a plain model: writes in any order, with kills at any file change."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import model_store
from model_store import Manifest, ManifestDraft, NotFoundError, Store
from tests.support.faults.killing import Killed, killed_at
from tests.support.faults.machines import run_machine
from tests.support.snapshot import stored_blobs
from tests.support.tiny import TinyDraft, TinyTask, make_draft

TASKS = st.sampled_from(["fruit", "tags"])
SEEDS = st.integers(1, 3)
CHANGES = st.integers(1, 45)


@functools.cache
def draft_of(task: str, seed: int) -> TinyDraft:
    return make_draft(TinyTask(task, seed))


class StoreMachine(RuleBasedStateMachine):
    """`live` and, by version, the seed of what was published: that is all a store is."""

    publish = staticmethod(model_store.publish)
    activate = staticmethod(model_store.activate)
    rollback = staticmethod(model_store.rollback)
    collect_garbage = staticmethod(model_store.collect_garbage)
    prune = staticmethod(model_store.prune)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.store = Store(Path(self.folder) / "store")
        self.versions: dict[str, dict[int, int]] = {}
        self.live: dict[str, int] = {}
        self.highest: dict[str, int] = {}  # number of a version so far, deleted ones included
        self.deaths = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(task=TASKS, seed=SEEDS, make_live=st.booleans())
    def publishes(self, task: str, seed: int, make_live: bool) -> None:
        version = self.publish_draft(task, seed, make_live=make_live).version
        self.appeared(task, version, seed)
        if make_live:
            self.live[task] = version

    @rule(task=TASKS, data=st.data())
    def activates(self, task: str, data: st.DataObject) -> None:
        known = sorted(self.versions.get(task, {}))
        version = data.draw(st.sampled_from([*known, 99]))
        if version in known:
            self.activate(self.store, task, version)
            self.live[task] = version
        else:
            with pytest.raises(NotFoundError):
                self.activate(self.store, task, version)

    @rule(task=TASKS)
    def rolls_back(self, task: str) -> None:
        earlier = self.earlier(task)
        if earlier:
            self.rollback(self.store, task)
            self.live[task] = earlier[-1]
        else:
            with pytest.raises(NotFoundError):
                self.rollback(self.store, task)

    @rule(task=TASKS, data=st.data())
    def deletes_a_version_that_is_not_live(self, task: str, data: st.DataObject) -> None:
        idle = sorted(self.versions.get(task, {}).keys() - {self.live.get(task)})
        if idle:
            version = data.draw(st.sampled_from(idle))
            shutil.rmtree(self.store.root / "tasks" / task / str(version))
            del self.versions[task][version]

    @rule()
    def collects(self) -> None:
        if self.versions:
            self.collect_garbage(self.store)
            assert stored_blobs(self.store) == self.needed()
            assert list((self.store.root / ".staging").iterdir()) == []

    @rule(task=TASKS, keep=st.integers(1, 3))
    def prunes(self, task: str, keep: int) -> None:
        if self.versions.get(task):
            self.prune(self.store, keep, task)
            for version in self.earlier(task)[:-keep]:
                del self.versions[task][version]
            assert stored_blobs(self.store) == self.needed()

    @rule(task=TASKS, keep=st.integers(1, 2), change=CHANGES)
    def dies_pruning(self, task: str, keep: int, change: int) -> None:
        if self.versions.get(task):
            old = self.earlier(task)[:-keep]
            self.dies(change, lambda: self.prune(self.store, keep, task))
            for version in set(old).difference(self.found_versions(task)):
                del self.versions[task][version]

    @rule(task=TASKS, seed=SEEDS, change=CHANGES)
    def dies_publishing(self, task: str, seed: int, change: int) -> None:
        self.dies(change, lambda: self.publish_draft(task, seed))
        for version in set(self.found_versions(task)) - self.versions.get(task, {}).keys():
            self.appeared(task, version, seed)
            if self.found_live(task) == version:
                self.live[task] = version

    @rule(task=TASKS, change=CHANGES, data=st.data())
    def dies_activating(self, task: str, change: int, data: st.DataObject) -> None:
        if self.versions.get(task):
            version = data.draw(st.sampled_from(sorted(self.versions[task])))
            if (
                not self.dies(change, lambda: self.activate(self.store, task, version))
                or self.found_live(task) == version
            ):
                self.live[task] = version

    @rule(task=TASKS, change=CHANGES)
    def dies_rolling_back(self, task: str, change: int) -> None:
        if earlier := self.earlier(task):
            died = self.dies(change, lambda: self.rollback(self.store, task))
            if not died or self.found_live(task) == earlier[-1]:
                self.live[task] = earlier[-1]

    @rule(change=CHANGES)
    def dies_collecting(self, change: int) -> None:
        if self.versions:
            self.dies(change, lambda: self.collect_garbage(self.store))

    @invariant()
    def is_what_the_model_says(self) -> None:
        assert set(self.versions) <= set(self.store.tasks())
        for task, versions in self.versions.items():
            assert self.store.versions(task) == sorted(versions)
            assert self.found_live(task) == self.live.get(task)
            for version, seed in versions.items():
                manifest = self.store.verify(task, version)
                assert manifest.head == draft_of(task, seed).manifest.head

    def publish_draft(self, task: str, seed: int, *, make_live: bool = True) -> Manifest:
        draft = draft_of(task, seed)
        return self.publish(self.store, draft.manifest, draft.blobs, make_live=make_live)

    def appeared(self, task: str, version: int, seed: int) -> None:
        assert version > self.highest.get(task, 0), "a number is used twice"
        self.highest[task] = version
        self.versions.setdefault(task, {})[version] = seed

    def dies(self, change: int, write: Callable[[], object]) -> bool:
        """Whether the write died; one with fewer changes gets through."""
        try:
            with killed_at(change):
                write()
        except Killed:
            self.deaths += 1
            return True
        return False

    def earlier(self, task: str) -> list[int]:
        return sorted(version for version in self.versions.get(task, {}) if version < self.live.get(task, 0))

    def needed(self) -> set[str]:
        return {
            blob.sha256
            for task, versions in self.versions.items()
            for version in versions
            for blob in self.store.manifest(task, version).blobs()
        }

    def found_versions(self, task: str) -> list[int]:
        with suppress(NotFoundError):
            return self.store.versions(task)
        return []

    def found_live(self, task: str) -> int | None:
        with suppress(NotFoundError):
            return self.store.live(task)
        return None


@pytest.mark.slow
def test_the_store_agrees_with_its_model_whatever_is_killed(counts, reliability):
    examples = counts(25, 1_000)
    run_machine(StoreMachine, examples)
    reliability(
        "store: publish, activate, roll back, collect, prune, in any order, with deaths",
        "as the model",
        f"{examples} runs",
    )


class LosesABlob(StoreMachine):
    """Collects one blob too many."""

    @staticmethod
    def collect_garbage(store: Store) -> dict[Path, int]:
        removed = model_store.collect_garbage(store)
        if needed := sorted((store.root / "blobs" / "sha256").iterdir()):
            needed[0].unlink()
        return removed


class RemovesTheVersionToGoBackTo(StoreMachine):
    """Removes one version too many."""

    @staticmethod
    def prune(store: Store, keep: int, task: str) -> dict[Path, int]:
        removed = model_store.prune(store, keep, task)
        live = store.live(task)
        if live is not None and (earlier := [version for version in store.versions(task) if version < live]):
            shutil.rmtree(store.root / "tasks" / task / str(earlier[-1]))
        return removed


class GoesBackTooFar(StoreMachine):
    """Rolls back to the first version."""

    @staticmethod
    def rollback(store: Store, task: str) -> Manifest:
        model_store.rollback(store, task)
        return model_store.activate(store, task, store.versions(task)[0])


class IsLiveTooEarly(StoreMachine):
    """Points at a version before that is there."""

    @staticmethod
    def publish(store: Store, draft: ManifestDraft, blobs: dict[str, bytes], *, make_live: bool) -> Manifest:
        folder = store.root / "tasks" / draft.task
        if (folder / "live").exists():
            (folder / "live").write_text(f"{max(store.versions(draft.task)) + 1}\n")
        return model_store.publish(store, draft, blobs, make_live=make_live)


class UsesANumberTwice(StoreMachine):
    """Forgets the highest number."""

    @staticmethod
    def publish(store: Store, draft: ManifestDraft, blobs: dict[str, bytes], *, make_live: bool) -> Manifest:
        manifest = model_store.publish(store, draft, blobs, make_live=make_live)
        (store.root / "tasks" / draft.task / "newest").unlink()
        return manifest


@pytest.mark.parametrize(
    "machine", [LosesABlob, RemovesTheVersionToGoBackTo, GoesBackTooFar, IsLiveTooEarly, UsesANumberTwice]
)
def test_control_a_faulty_store_differs_from_its_model(machine, reliability):
    found = []
    try:
        run_machine(machine, 200, [Phase.generate])
    except Exception as error:
        found.append(type(error).__name__)
    reliability(
        f"*control*: a store that {machine.__doc__[0].lower()}{machine.__doc__[1:-1]}", "found", str(found), bool(found)
    )
