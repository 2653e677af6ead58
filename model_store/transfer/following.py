"""Follow: keep what is live in this store at the version that a remote points to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Event

from model_store import publishing, removing
from model_store.describe.tables import size
from model_store.errors import CorruptError, StoreError
from model_store.files import blob_of, read_beneath
from model_store.manifest import Manifest
from model_store.messages import describe_error, quoted
from model_store.store import Store
from model_store.transfer.progress import TransferCount
from model_store.transfer.pulling import check_version, current_version, fetch_version
from model_store.transfer.remote import Remote, SignedManifest
from model_store.writing import folder_of, set_file, writing

_MAX_WAIT_SECONDS = 300.0
_FOLLOWED = "followed"  # file in a task's folder: SHA-256 of the manifest that the remote pointed to last


class Follower:
    """Pulls and activates the version that a remote points to, each time that it points to another one.

    Between two such changes it leaves the store alone, so a rollback or a withdrawal lasts until the remote changes.
    The store records the version that was followed last, so this holds for the next follower of the store, too. In a
    store without the record, a task that is withdrawn stays so, if the store has the version already.

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
                self._log(f"error: {describe_error(error)}; the next attempt is in {wait_seconds:g} s")
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
        else:
            state = None if self._seen is not None else self._state_to_keep(manifest, signed, was_here)
            if state is None:
                self._activate(task, version)
            else:
                cure = f"`mora-store activate {task} {version} --store {quoted(self._store.root)}` ends this"
                self._log(f"{task}: {state} here, until {self._remote.name} points to another version; {cure}")
            self._record(task, signed)
            self._prune(task)
        self._seen, self._task = signed, task

    def _state_to_keep(self, manifest: Manifest, signed: SignedManifest, was_here: bool) -> str | None:
        """What a person has set since an earlier follower activated the version; None if it is to be activated."""
        task, followed = manifest.task, self._followed(manifest.task)
        is_followed = followed == _digest(signed)
        if self._store.is_withdrawn(task):
            return "withdrawn" if is_followed or (followed is None and was_here) else None
        with suppress(CorruptError):  # `live` is damaged
            live = self._store.live(task)
            if is_followed and live != manifest.version and live in self._store.versions(task):
                return f"version {live} is live"
        return None

    def _followed(self, task: str) -> str | None:
        with suppress(CorruptError):  # it is missing or damaged
            return read_beneath(self._store.root, f"tasks/{task}/{_FOLLOWED}", 100).decode("ascii", "replace").strip()
        return None

    def _record(self, task: str, signed: SignedManifest) -> None:
        if self._followed(task) != _digest(signed):
            with writing(self._store) as staging:
                set_file(folder_of(self._store, "tasks", task), _FOLLOWED, f"{_digest(signed)}\n".encode(), staging)

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


def _digest(signed: SignedManifest) -> str:
    return blob_of(signed.content).sha256
