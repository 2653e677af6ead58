"""A store that is kept in a bucket or a repository of a hub: the same files under the same names as on disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from model_store.files import digest_line
from model_store.manifest import TASK_NAME, Blob, Manifest
from model_store.signing import SIGNATURE_BYTES
from model_store.store import MAX_MANIFEST_BYTES, MAX_OPENSSF_BYTES, OPENSSF_SIGNATURE, WITHDRAWN
from model_store.transfer.remote import SignedManifest, TransferError

Read = Callable[[str, int], bytes | None]  # the content of a file of at most so many bytes; None: there is no such file
_VERSION = re.compile(rb"[1-9][0-9]{0,17}\n?")


def blob_name(blob: Blob) -> str:
    """The name of a blob's file."""
    return f"blobs/sha256/{blob.sha256}"


def one_task(name: str, tasks: Sequence[str]) -> str | None:
    """The only task of a place, or None if it has no task. Raises TransferError if it has several."""
    names = sorted(task for task in tasks if re.fullmatch(TASK_NAME, task))
    if len(names) > 1:
        raise TransferError(f"{name} holds {len(names)} tasks ({', '.join(names[:10])}); name one of them: {name}:TASK")
    return names[0] if names else None


def live_version(name: str, task: str, read: Read) -> SignedManifest | None:
    """The version of a task that `live` names. Raises TransferError."""
    live = read(f"tasks/{task}/live", 32)
    if live is None:
        return None
    if not _VERSION.fullmatch(live):
        raise TransferError(f"tasks/{task}/live at {name} does not hold a version number; push the version again")
    if read(f"tasks/{task}/{WITHDRAWN}", 32) is not None:
        raise TransferError(f"{task} is withdrawn at {name}; activate a version there")
    folder = f"tasks/{task}/{int(live)}"
    content = read(f"{folder}/manifest.json", MAX_MANIFEST_BYTES)
    if content is None:
        raise TransferError(f"{folder}/manifest.json is missing at {name}; push the version again")
    signature = read(f"{folder}/manifest.sig", SIGNATURE_BYTES)
    return SignedManifest(content, signature, read(f"{folder}/{OPENSSF_SIGNATURE}", MAX_OPENSSF_BYTES))


def new_files(name: str, manifest: Manifest, signed: SignedManifest, read: Read) -> dict[str, bytes]:
    """The files of a version and `live`, in the order in which they are to be written; `live` makes it visible.

    Raises TransferError if the place has another version of this number.
    """
    folder = f"tasks/{manifest.task}/{manifest.version}"
    present = read(f"{folder}/manifest.json", MAX_MANIFEST_BYTES)
    if present not in (None, signed.content):
        raise another_version(name, manifest)
    files = {} if signed.signature is None else {f"{folder}/manifest.sig": signed.signature}
    if signed.openssf is not None:
        files[f"{folder}/{OPENSSF_SIGNATURE}"] = signed.openssf
    if present is None:
        files |= {f"{folder}/manifest.sha256": digest_line(signed.content), f"{folder}/manifest.json": signed.content}
    return {**files, f"tasks/{manifest.task}/live": f"{manifest.version}\n".encode()}


def another_version(name: str, manifest: Manifest) -> TransferError:
    """The error for a version number that is taken."""
    problem = f"{name} has another version {manifest.version} of {manifest.task}, which stays as it is"
    return TransferError(f"{problem}; publish it again, so that it gets a new number, and push that")
