"""Writing to the store: publish, activate, roll back, sign. A lock admits one writer at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from model_store.errors import CorruptError, NotFoundError, StoreError
from model_store.files import blob_of, exists_beneath, sync_directory, write_synced
from model_store.manifest import Blob, Manifest, ManifestDraft
from model_store.store import MAX_MANIFEST_BYTES, OPENSSF_SIGNATURE, WITHDRAWN, Store, parse_manifest
from model_store.writing import SIGNATURE, create_store, folder_of, set_file, write_version, writing


def publish(
    store: Store,
    draft: ManifestDraft,
    blobs: Mapping[str, bytes],
    signing_key: Ed25519PrivateKey | None = None,
    *,
    make_live: bool | Callable[[], bool] = True,
) -> Manifest:
    """Add a new version of a task and make it live, unless the task is withdrawn.

    If the process is killed, either the old or the new version is live. Files are staged and synced first. Then the
    blobs and the version are renamed to their final paths. `live` changes last.

    Args:
        blobs: content by SHA-256; blobs that the store already holds may be left out.
        signing_key: signs the version before it becomes visible.
        make_live: False leaves the live version as it is; `activate` makes the new one live. A function is called
            before anything is written; no other version becomes live until `publish` ends.

    Raises:
        StoreError: a blob of the draft is neither in `blobs` nor in the store, or does not match its digest; or the
            manifest is too large.
        OSError: the disk is full or read-only; the old version stays live.
    """
    draft = Manifest.model_validate({**draft.model_dump(), "version": 1})  # validates names before they become paths
    create_store(store)
    with writing(store) as staging:
        becomes_live = make_live() if callable(make_live) else make_live
        _add_blobs(store, draft.blobs(), blobs, staging)
        task_folder = folder_of(store, "tasks", draft.task)
        manifest = draft.model_copy(update={"version": store.newest(draft.task) + 1})
        staged = staging / "version"
        content = manifest.model_dump_json(indent=1).encode()
        if len(content) > MAX_MANIFEST_BYTES:
            cure = "publish fewer labels or golden examples, or a shorter configuration"
            raise StoreError(f"the manifest has {len(content):,} bytes, more than {MAX_MANIFEST_BYTES:,}; {cure}")
        write_version(staged, content, None if signing_key is None else signing_key.sign(content))
        _record_newest(store, draft.task, manifest.version, staging)
        staged.rename(task_folder / str(manifest.version))
        sync_directory(task_folder)
        if becomes_live and not store.is_withdrawn(draft.task):  # only `activate` ends a withdrawal
            _set_live(store, draft.task, manifest.version, staging)
    return manifest


def add_version(
    store: Store, content: bytes, signature: bytes | None, openssf: bytes | None, files: Mapping[str, Path]
) -> Manifest:
    """Add a version of another store as it is there: its number, the bytes of its manifest, its signatures.

    `live` stays as it is. If the store has this version already, its damaged blobs are replaced, and it gets
    the signatures that it lacks. Its `manifest.sig` is replaced only in a store with trusted keys, whose caller has
    checked the new one.

    Args:
        content: of `manifest.json`; `signature` of `manifest.sig`, and `openssf` of `model.sig`, if there are any.
        files: verified and synced files of this file system by SHA-256, for the blobs that the store lacks. They are
            moved into the store.

    Raises:
        StoreError: the store has another version of this number, which stays as it is.
        CorruptError: a blob is neither in `files` nor in the store.
    """
    manifest = parse_manifest(content, "manifest.json")
    create_store(store)
    with writing(store) as staging:
        has_version = is_known(store, manifest, content)
        blobs = folder_of(store, "blobs", "sha256")
        for sha256, file in files.items():
            file.replace(blobs / sha256)
        sync_directory(blobs)
        store.check(manifest.blobs())
        task_folder = folder_of(store, "tasks", manifest.task)
        if not has_version:
            write_version(staging / "version", content, signature, openssf)
            _record_newest(store, manifest.task, manifest.version, staging)
            (staging / "version").rename(task_folder / str(manifest.version))
            sync_directory(task_folder)
        else:
            for name, value in _taken(store, manifest, signature, openssf).items():
                set_file(task_folder / str(manifest.version), name, value, staging)
    return manifest


def is_known(store: Store, manifest: Manifest, content: bytes) -> bool:
    """Whether the store has this version. Raises StoreError if it has another version of the same number."""
    task, version = manifest.task, manifest.version
    if not exists_beneath(store.root, f"tasks/{task}/{version}"):
        return False
    if Store(store.root).read_manifest(task, version)[1] != content:
        cure = "publish it again where it was made, so that it gets a new number, and push that"
        raise StoreError(f"{store.root} has another version {version} of {task}, which stays as it is; {cure}")
    return True


def seed(store: Store, source: Store) -> dict[str, int | None]:
    """Copy the live version of each task of another store that this store lacks. Existing tasks stay as they are.

    A version keeps its number and its signature, and its task appears with it: a killed seed leaves no half of a task.

    Returns:
        The copied version by task, or None for a task that the store has already.
    """
    create_store(store)
    with writing(store) as staging:
        return {task: _copy_task(store, source, task, staging) for task in source.tasks() if source.live(task)}


def activate(store: Store, task: str, version: int) -> Manifest:
    """Verify a version, then make it the live one."""
    with writing(store) as staging:
        manifest = store.verify(task, version)
        _set_live(store, task, version, staging)
    return manifest


def rollback(store: Store, task: str) -> Manifest:
    """Verify the version before the live one, then make it live again. Raises NotFoundError if there is none."""
    with writing(store) as staging:
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
    with writing(store) as staging:
        versions = store.versions(task)
        if store.is_withdrawn(task) or not versions:
            problem = "is withdrawn already" if versions else "has no version, so nothing answers for it"
            raise NotFoundError(f"task {task} {problem}")
        try:
            version = store.live(task) or versions[-1]
        except CorruptError:  # `live` is damaged; services may still answer with the version that it named
            version = versions[-1]
        set_file(folder_of(store, "tasks", task), WITHDRAWN, b"", staging)
    return version


def sign(store: Store, task: str, version: int | None, signing_key: Ed25519PrivateKey) -> Manifest:
    """Verify a published version, by default the live one, then sign it. An existing signature is replaced."""
    return attach(store, task, version, SIGNATURE, lambda _, content: signing_key.sign(content))


def attach(
    store: Store, task: str, version: int | None, name: str, made: Callable[[Manifest, bytes], bytes]
) -> Manifest:
    """Verify a published version, by default the live one, then write a file into its folder, or replace it.

    Args:
        made: the file's content, from the manifest and its bytes.
    """
    with writing(store) as staging:
        manifest, content = store.read_manifest(task, version)
        for blob in manifest.blobs():
            store.read(blob)
        folder = folder_of(store, "tasks", task, str(manifest.version))
        set_file(folder, name, made(manifest, content), staging)
    return manifest


def _copy_task(store: Store, source: Store, task: str, staging: Path) -> int | None:
    folder = store.root / "tasks" / task
    if os.path.lexists(folder) and any(folder.iterdir()):  # a killed publisher may have left an empty one
        return None
    manifest, content = source.read_manifest(task)
    for blob in manifest.blobs():  # one by one: a store may be larger than the memory
        _add_blobs(store, [blob], {blob.sha256: source.read(blob)}, staging)
    staged = staging / task
    staged.mkdir()
    signatures = source.signature(task, manifest.version), source.openssf_signature(task, manifest.version)
    write_version(staged / str(manifest.version), content, *signatures)
    write_synced(staged / "live", f"{manifest.version}\n".encode())
    sync_directory(staged)
    staged.rename(folder)
    sync_directory(folder.parent)
    return manifest.version


def _taken(store: Store, manifest: Manifest, signature: bytes | None, openssf: bytes | None) -> dict[str, bytes]:
    """The signatures that a version of the store takes over, by file name."""
    taken = {}
    own = store.signature(manifest.task, manifest.version)
    if signature is not None and (own is None or (store.trusted is not None and own != signature)):
        taken[SIGNATURE] = signature
    if openssf is not None and store.openssf_signature(manifest.task, manifest.version) is None:
        taken[OPENSSF_SIGNATURE] = openssf
    return taken


def _add_blobs(store: Store, needed: list[Blob], contents: Mapping[str, bytes], staging: Path) -> None:
    folder = folder_of(store, "blobs", "sha256")
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


def _set_live(store: Store, task: str, version: int, staging: Path) -> None:
    """Set `live` and end a withdrawal."""
    _record_newest(store, task, version, staging)  # `live` may have been the only trace of a deleted version
    task_folder = folder_of(store, "tasks", task)
    set_file(task_folder, "live", f"{version}\n".encode(), staging)
    (task_folder / WITHDRAWN).unlink(missing_ok=True)
    sync_directory(task_folder)


def _record_newest(store: Store, task: str, version: int, staging: Path) -> None:
    """Have `newest` name the highest number so far, so that no number is used twice, even after a deletion."""
    recorded = {"live": 0, "newest": 0}
    for name in recorded:
        with suppress(CorruptError):  # a damaged file is written anew
            recorded[name] = store.number(task, name) or 0
    highest = max(version, *recorded.values(), *store.versions(task))
    if highest != recorded["newest"]:
        set_file(folder_of(store, "tasks", task), "newest", f"{highest}\n".encode(), staging)
