"""Follow: keep what is live in this store at the version that a remote points to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Event

from model_store import publishing, removing
from model_store.describe.tables import size
from model_store.errors import CorruptError, StoreError
from model_store.messages import describe_error
from model_store.store import Store
from model_store.transfer.progress import TransferCount
from model_store.transfer.pulling import check_version, current_version, fetch_version
from model_store.transfer.remote import Remote, SignedManifest

_MAX_WAIT_SECONDS = 300.0


class Follower:
    """Pulls and activates the version that a remote points to, each time that it points to another one.

    Between two such changes it leaves the store alone, so a rollback or a withdrawal lasts until the remote changes. A
    task that is withdrawn when the follower starts stays so, if the store has the version already.

    Args:
        keep: number of versions before the live one that stay when another version becomes live; None keeps all.
    """

    def __init__(
        self,
        remote: Remote,
        store: Store,
        log: Callable[[str], None],
        count: TransferCount | None = None,
        keep: int | None = None,
    ) -> None:
        self._remote = remote
        self._store = store
        self._log = log
        self._count = count or TransferCount()
        self._keep = keep
        self._task = remote.task
        self._seen: SignedManifest | None = None

    def run(self, seconds: float, stop: Event) -> None:
        """Look every `seconds` until `stop` is set. After a failure, the wait doubles, up to five minutes."""
        wait_seconds, has_failed = seconds, False
        while not stop.is_set():
            try:
                self.step()
            except (StoreError, OSError) as error:
                self._log(f"error: {describe_error(error)}; the next attempt is in {wait_seconds:.0f} seconds")
                stop.wait(wait_seconds)
                wait_seconds, has_failed = min(2 * wait_seconds, max(seconds, _MAX_WAIT_SECONDS)), True
                continue
            if has_failed:
                self._log(f"{self._remote.name} works again")
            wait_seconds, has_failed = seconds, False
            stop.wait(seconds)

    def step(self) -> None:
        """Look once. Raises StoreError or OSError; what is live is as before then, and the next call tries again."""
        signed = current_version(self._remote, self._task)
        if signed == self._seen:
            return
        manifest = check_version(self._remote, self._store, signed, self._task)
        task, version = manifest.task, manifest.version
        was_here = publishing.is_known(self._store, manifest, signed.content)
        if self._seen is None and task in self._store.tasks():
            self._prune(task)  # an earlier run may have filled the disk
        fetch_version(self._remote, self._store, signed, manifest, self._count)
        if self._seen is not None and self._seen.content == signed.content:
            self._log(f"{task}: version {version} is as before, with another signature")
        elif self._seen is None and was_here and self._store.is_withdrawn(task):
            cure = f"`mora-store activate {task} {version} --store {self._store.root}` ends this"
            self._log(f"{task}: withdrawn here, until {self._remote.name} points to another version; {cure}")
        else:
            self._activate(task, version)
            self._prune(task)
        self._seen, self._task = signed, task

    def _activate(self, task: str, version: int) -> None:
        with suppress(CorruptError):  # `live` is damaged; `activate` writes it anew
            if self._store.live(task) == version:
                self._log(f"{task}: version {version} is live already")
                return
        publishing.activate(self._store, task, version)
        self._log(f"{task}: version {version} is live")

    def _prune(self, task: str) -> None:
        """Remove old versions of the task. A failure is logged, and the next activation tries again."""
        if self._keep is None:
            return
        store = Store(self._store.root)  # without trusted keys: a version that is not signed needs its files, too
        try:
            removed, versions = removing.prune(store, self._keep, task), store.versions(task)
        except (StoreError, OSError) as error:
            self._log(f"error: {task} is not pruned: {describe_error(error)}")
            return
        if removed:
            freed, numbers = size(sum(removed.values())), ", ".join(map(str, versions))
            self._log(f"{task}: old versions are removed ({freed}); the store has {numbers}")
