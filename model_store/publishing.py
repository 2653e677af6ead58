"""Writing to the store: publish, activate, roll back, sign, collect garbage. A lock admits one writer at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from model_store.errors import CorruptError, NotFoundError, StoreError
from model_store.files import blob_of, digest_line, sync_directory, write_synced
from model_store.manifest import Blob, Manifest, ManifestDraft
from model_store.store import MAX_MANIFEST_BYTES, WITHDRAWN, Store

_SIGNATURE = "manifest.sig"


def publish(
    store: Store,
    draft: ManifestDraft,
    blobs: Mapping[str, bytes],
    signing_key: Ed25519PrivateKey | None = None,
    *,
    make_live: bool = True,
) -> Manifest:
    """Add a new version of a task and make it live, unless the task is withdrawn.

    If the process is killed, either the old or the new version is live. Files are staged and synced first. Then the
    blobs and the version are renamed to their final paths. `live` changes last.

    Args:
        blobs: content by SHA-256; blobs that the store already holds may be left out.
        signing_key: signs the version before it becomes visible.
        make_live: False leaves the live version as it is; `activate` makes the new one live.

    Raises:
        StoreError: a blob of the draft is neither in `blobs` nor in the store, or does not match its digest; or the
            manifest is too large.
        OSError: the disk is full or read-only; the old version stays live.
    """
    draft = Manifest.model_validate({**draft.model_dump(), "version": 1})  # validates names before they become paths
    _create_store(store)
    with _writing(store) as staging:
        _add_blobs(store, draft.blobs(), blobs, staging)
        task_folder = _folder(store, "tasks", draft.task)
        manifest = draft.model_copy(update={"version": store.newest(draft.task) + 1})
        staged = staging / "version"
        content = manifest.model_dump_json(indent=1).encode()
        if len(content) > MAX_MANIFEST_BYTES:
            cure = "publish fewer labels or golden examples, or a shorter configuration"
            raise StoreError(f"the manifest has {len(content):,} bytes, more than {MAX_MANIFEST_BYTES:,}; {cure}")
        _write_version(staged, content, None if signing_key is None else signing_key.sign(content))
        staged.rename(task_folder / str(manifest.version))
        sync_directory(task_folder)
        if make_live and not store.is_withdrawn(draft.task):  # only `activate` ends a withdrawal
            _set_live(store, draft.task, manifest.version, staging)
    return manifest


def seed(store: Store, source: Store) -> dict[str, int | None]:
    """Copy the live version of each task of another store that this store lacks. Existing tasks stay as they are.

    A version keeps its number and its signature, and its task appears with it: a killed seed leaves no half of a task.

    Returns:
        The copied version by task, or None for a task that the store has already.
    """
    _create_store(store)
    with _writing(store) as staging:
        return {task: _copy_task(store, source, task, staging) for task in source.tasks() if source.live(task)}


def activate(store: Store, task: str, version: int) -> Manifest:
    """Verify a version, then make it the live one."""
    with _writing(store) as staging:
        manifest = store.verify(task, version)
        _set_live(store, task, version, staging)
    return manifest


def rollback(store: Store, task: str) -> Manifest:
    """Verify the version before the live one, then make it live again. Raises NotFoundError if there is none."""
    with _writing(store) as staging:
        live, versions = store.live(task), store.versions(task)
        earlier = [version for version in versions if live is not None and version < live]
        if not earlier:
            problem = "is not live" if live is None else f"has no version before {live} to go back to"
            numbers = ", ".join(map(str, versions)) or "none"
            raise NotFoundError(f"task {task} {problem}; `mora-store activate {task} VERSION` takes any of: {numbers}")
        manifest = store.verify(task, earlier[-1])
        _set_live(store, task, manifest.version, staging)
    return manifest


def withdraw(store: Store, task: str) -> int:
    """End the answers for a task until a version is activated. Returns the live version, or the newest one.

    Raises NotFoundError if the task is withdrawn already or has no version.
    """
    with _writing(store) as staging:
        versions = store.versions(task)
        if store.is_withdrawn(task) or not versions:
            problem = "is withdrawn already" if versions else "has no version, so nothing answers for it"
            raise NotFoundError(f"task {task} {problem}")
        try:
            version = store.live(task) or versions[-1]
        except CorruptError:  # `live` is damaged; services may still answer with the version that it named
            version = versions[-1]
        folder = _folder(store, "tasks", task)
        write_synced(staging / WITHDRAWN, b"")
        (staging / WITHDRAWN).replace(folder / WITHDRAWN)
        sync_directory(folder)
    return version


def sign(store: Store, task: str, version: int | None, signing_key: Ed25519PrivateKey) -> Manifest:
    """Verify a published version, by default the live one, then sign it. An existing signature is replaced."""
    return attach(store, task, version, _SIGNATURE, lambda _, content: signing_key.sign(content))


def attach(
    store: Store, task: str, version: int | None, name: str, made: Callable[[Manifest, bytes], bytes]
) -> Manifest:
    """Verify a published version, by default the live one, then write a file into its folder, or replace it.

    Args:
        made: the file's content, from the manifest and its bytes.
    """
    with _writing(store) as staging:
        manifest, content = store.read_manifest(task, version)
        for blob in manifest.blobs():
            store.read(blob)
        folder = _folder(store, "tasks", task, str(manifest.version))
        write_synced(staging / name, made(manifest, content))
        (staging / name).replace(folder / name)
        sync_directory(folder)
    return manifest


def collect_garbage(store: Store) -> dict[Path, int]:
    """Remove blobs that no manifest names, and the staging folders of killed publishers.

    Returns the removed paths with their sizes in bytes.

    Raises:
        CorruptError: a task or manifest cannot be read, so the blobs that it needs are unknown; nothing is removed.
    """
    with _writing(store) as staging:
        for folder in _folder(store, "tasks").iterdir():
            _refuse_symlink(store, folder)
        needed = {
            blob.sha256
            for task in store.tasks()
            for version in store.versions(task)
            for blob in store.manifest(task, version).blobs()
        }
        unused = [path for path in staging.parent.iterdir() if path != staging]
        unused += [path for path in _folder(store, "blobs", "sha256").iterdir() if path.name not in needed]
        return {path: _remove(path) for path in unused}


def _create_store(store: Store) -> None:
    for missing in [folder for folder in [store.root, *store.root.parents] if not folder.exists()][::-1]:
        _make_directory(missing)
    _folder(store, "tasks")


def _copy_task(store: Store, source: Store, task: str, staging: Path) -> int | None:
    folder = store.root / "tasks" / task
    if os.path.lexists(folder) and any(folder.iterdir()):  # a killed publisher may have left an empty one
        return None
    manifest, content = source.read_manifest(task)
    for blob in manifest.blobs():  # one by one: a store may be larger than the memory
        _add_blobs(store, [blob], {blob.sha256: source.read(blob)}, staging)
    staged = staging / task
    staged.mkdir()
    _write_version(staged / str(manifest.version), content, source.signature(task, manifest.version))
    write_synced(staged / "live", f"{manifest.version}\n".encode())
    sync_directory(staged)
    staged.rename(folder)
    sync_directory(folder.parent)
    return manifest.version


def _write_version(folder: Path, content: bytes, signature: bytes | None) -> None:
    folder.mkdir()
    write_synced(folder / "manifest.json", content)
    write_synced(folder / "manifest.sha256", digest_line(content))
    if signature is not None:
        write_synced(folder / _SIGNATURE, signature)
    sync_directory(folder)


def _remove(path: Path) -> int:
    """Remove a file, or a folder with its content. Returns the size in bytes."""
    if path.is_symlink() or not path.is_dir():
        size = path.lstat().st_size
        path.unlink()
    else:
        size = sum(inner.lstat().st_size for inner in path.rglob("*") if not inner.is_dir())
        shutil.rmtree(path)
    return size


@contextmanager
def _writing(store: Store) -> Iterator[Path]:
    """Hold the writers' lock and yield a new staging folder. The lock is released even if the process is killed."""
    if not (store.root / "tasks").is_dir():
        cure = "name a store with --store; `mora-train publish` creates one"
        raise NotFoundError(f"no model store at {store.root}: it has no folder `tasks`; {cure}")
    lock = os.open(store.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        staging = _folder(store, ".staging") / uuid.uuid4().hex
        staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    finally:
        os.close(lock)


def _add_blobs(store: Store, needed: list[Blob], contents: Mapping[str, bytes], staging: Path) -> None:
    folder = _folder(store, "blobs", "sha256")
    for blob in needed:
        with suppress(CorruptError):  # a missing or damaged blob is written
            store.read(blob)
            continue
        if blob.sha256 not in contents:
            raise StoreError(f"blob {blob.sha256} is neither given nor in the store; export the task again")
        if blob_of(contents[blob.sha256]) != blob:
            raise StoreError(f"the content of blob {blob.sha256} does not match its digest; export the task again")
        write_synced(staging / blob.sha256, contents[blob.sha256])
        (staging / blob.sha256).replace(folder / blob.sha256)
    sync_directory(folder)


def _folder(store: Store, *names: str) -> Path:
    """A folder of the store, created if missing."""
    folder = store.root
    for name in names:
        folder = folder / name
        _refuse_symlink(store, folder)
        _make_directory(folder)
    return folder


def _refuse_symlink(store: Store, folder: Path) -> None:
    if folder.is_symlink():  # its target may be outside the store
        raise CorruptError(f"{folder.relative_to(store.root)} is a symlink; replace it by a folder", "link")


def _make_directory(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    sync_directory(folder.parent)  # even if the folder exists: the process that created it may have been killed


def _set_live(store: Store, task: str, version: int, staging: Path) -> None:
    """Set `live` and end a withdrawal.

    If the number decreases, `newest` first records the highest one, so that no number is used twice.
    """
    task_folder = _folder(store, "tasks", task)
    try:
        newest = store.newest(task)
        numbers = {"newest": newest, "live": version} if version < newest else {"live": version}
    except CorruptError:  # `live` or `newest` is damaged; both are written anew
        numbers = {"newest": max(store.versions(task)), "live": version}
    for name, number in numbers.items():
        write_synced(staging / name, f"{number}\n".encode())
        (staging / name).replace(task_folder / name)
        sync_directory(task_folder)
    (task_folder / WITHDRAWN).unlink(missing_ok=True)
    sync_directory(task_folder)
