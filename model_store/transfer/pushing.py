"""Push: a version of this store goes to a remote, with the blobs that are not there yet."""

from __future__ import annotations

from model_store.errors import CorruptError
from model_store.manifest import Blob, Manifest
from model_store.messages import quoted
from model_store.store import Store, parse_manifest
from model_store.transfer.progress import TransferCount
from model_store.transfer.remote import Advance, Remote, SignedManifest, TransferError
from model_store.transfer.several import move_all, those_without
from model_store.transfer.store_layout import another_version


def push(store: Store, task: str, version: int | None, remote: Remote, count: TransferCount) -> Manifest:
    """Push a version, by default the live one, with its signatures, and point the target to it.

    Raises:
        NotFoundError: the task or the version does not exist, or no version is live.
        CorruptError: a file of the version is damaged.
        TransferError: the target belongs to another task, has another version of this number, or refuses the push.
    """
    manifest, content = store.read_manifest(task, version)
    number = manifest.version
    signed = SignedManifest(content, store.signature(task, number), store.openssf_signature(task, number))
    _check_target(remote, manifest, signed)
    missing = those_without(manifest.blobs(), remote.has)
    count.expect(sum(blob.size for blob in missing))

    def send(blob: Blob, advance: Advance) -> None:
        if not store.holds(blob):
            check = f"`mora-store verify {task} --store {quoted(store.root)}`"
            cure = f"{check} shows what is damaged; publish the version again"
            raise CorruptError(f"blob {blob.sha256} is damaged or missing; {cure}", "sha256")
        with store.open(blob) as file:
            remote.add(blob, file, advance)

    move_all(missing, send, count.add)
    remote.publish(manifest, signed)
    return manifest


def _check_target(remote: Remote, manifest: Manifest, signed: SignedManifest) -> None:
    if remote.task not in (None, manifest.task):
        raise TransferError(f"{remote.name} is for the task {remote.task}; name {manifest.task} there, or nothing")
    current = remote.current(manifest.task)
    if current is None:
        return
    present = parse_manifest(current.content, f"the manifest at {remote.name}")
    if present.task != manifest.task:
        raise TransferError(f"{remote.name} points to a version of {present.task}; choose another tag")
    if present.version == manifest.version and current.content != signed.content:
        raise another_version(remote.name, manifest)
