"""Pull: a version of a remote comes into this store, and becomes visible once all of it is verified."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, closing
from pathlib import Path

from model_store import publishing
from model_store.describe.tables import size
from model_store.errors import NotFoundError, UntrustedError
from model_store.incoming import incoming_file, incoming_path
from model_store.manifest import Blob, Manifest
from model_store.messages import quoted
from model_store.signing import TrustedKeys
from model_store.store import MAX_MANIFEST_BYTES, Store, parse_manifest
from model_store.transfer.progress import TransferCount
from model_store.transfer.receiving import receive
from model_store.transfer.remote import Advance, Remote, SignedManifest, TransferError
from model_store.transfer.several import move_all, those_without
from model_store.transfer.target import open_remote


def pull(
    target: str,
    store_directory: Path,
    *,
    activate: bool = False,
    trusted: TrustedKeys | None = None,
    plain_http: bool = False,
    count: TransferCount | None = None,
) -> Manifest:
    """Pull the version that a target points to into a store, which is created if it does not exist.

    Only blobs that the store lacks are fetched. The version is visible once all of it is verified. The next pull
    resumes a killed one.

    Args:
        target: `oci://HOST/REPOSITORY:TAG`, `s3://BUCKET/PREFIX` (`gs://`, `az://`), `hf://OWNER/NAME`, or a folder.
        activate: make the version live, even if the task is withdrawn.
        trusted: the version must be signed by one of these keys.
        plain_http: for a registry or an object store without TLS.
        count: shows or counts the bytes that are fetched.

    Raises:
        StoreError: the target points to nothing, the remote refuses or fails, or what it sent is not a whole, signed
            version; or the store has another version of the same number.
        OSError: the disk is full, or the store cannot be written.
    """
    store = Store(store_directory, trusted)
    with closing(open_remote(target, plain_http=plain_http)) as remote:
        signed = current_version(remote, remote.task)
        manifest = check_version(remote, store, signed, remote.task)
        fetch_version(remote, store, signed, manifest, count or TransferCount())
    if activate:
        publishing.activate(store, manifest.task, manifest.version)
    return manifest


def pinned(target: str, *, plain_http: bool = False) -> str:
    """A target that always names the version that this one points to now, if its place has such names: a registry has.

    Raises TransferError.
    """
    with closing(open_remote(target, plain_http=plain_http)) as remote:
        return remote.pinned()


def current_version(remote: Remote, task: str | None) -> SignedManifest:
    """The version that a remote points to. Raises NotFoundError if there is none."""
    signed = remote.current(task)
    if signed is None:
        raise NotFoundError(
            f"{remote.name} points to no version; `mora-store push TASK {quoted(remote.name)}` puts one there"
        )
    return signed


def check_version(remote: Remote, store: Store, signed: SignedManifest, task: str | None) -> Manifest:
    """The manifest of a version that the store can take. Nothing is fetched and nothing is written.

    Raises:
        UntrustedError: the store has trusted keys, and none of them signed it.
        StoreError: it is no manifest, or of another task, or the store has another version of its number.
    """
    name = f"the manifest at {remote.name}"
    if store.trusted is not None:  # before it is parsed: it may be forged
        if signed.signature is None:
            cure = "sign it where it was made (`mora-store sign`) and push it again"
            raise UntrustedError(f"{name} is not signed; {cure}")
        if store.trusted.signer(signed.content, signed.signature) is None:
            cure = "sign it again with a trusted key, and push it"
            raise UntrustedError(f"{name} is signed by no trusted key, or was changed after it was signed; {cure}")
    if len(signed.content) > MAX_MANIFEST_BYTES:
        raise TransferError(f"{name} has more than {MAX_MANIFEST_BYTES:,} bytes; push the version again")
    manifest = parse_manifest(signed.content, name)
    if task not in (None, manifest.task):
        raise TransferError(f"{name} is of the task {manifest.task}, not of {task}; correct the target or push {task}")
    blobs = manifest.blobs()
    if len({blob.sha256 for blob in blobs}) < len(blobs):
        raise TransferError(f"{name} gives one blob two sizes; publish and push the version again")
    publishing.is_known(store, manifest, signed.content)
    return manifest


def fetch_version(
    remote: Remote, store: Store, signed: SignedManifest, manifest: Manifest, count: TransferCount
) -> None:
    """Fetch the missing blobs of a checked version, then add it to the store."""
    missing = those_without(manifest.blobs(), store.holds)
    count.expect(_needed_bytes(store.root, missing))
    with ExitStack() as locks:
        in_order = sorted(missing, key=lambda blob: blob.sha256)  # of all pulls, so that no two wait for each other
        files = {blob: locks.enter_context(incoming_file(store.root, blob.sha256)) for blob in in_order}

        def fetch(blob: Blob, advance: Advance) -> None:
            receive(remote, blob, files[blob], advance)

        still_missing = those_without(missing, store.holds)  # another pull may have brought some meanwhile
        for blob in {*missing} - {*still_missing}:
            incoming_path(store.root, blob.sha256).unlink()
        move_all(still_missing, fetch, count.add)
        paths = {blob.sha256: incoming_path(store.root, blob.sha256) for blob in still_missing}
        publishing.add_version(store, *signed, paths)


def _needed_bytes(root: Path, missing: list[Blob]) -> int:
    """The bytes that earlier pulls have not brought. Raises TransferError if the disk has no room for them."""
    present = sum(path.stat().st_size for blob in missing if (path := incoming_path(root, blob.sha256)).is_file())
    needed = sum(blob.size for blob in missing) - present
    folder = next(folder for folder in [root.absolute(), *root.absolute().parents] if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        problem = f"the version needs {size(needed)} more in {root}, and {size(free)} are free"
        raise TransferError(f"{problem}; free space on the disk (df -h shows it) and run this again")
    return max(needed, 0)
