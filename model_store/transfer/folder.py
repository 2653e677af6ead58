"""A store in another folder, such as a mounted share."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from model_store import publishing
from model_store.incoming import incoming_file, incoming_path
from model_store.manifest import Blob, Manifest
from model_store.store import Store
from model_store.transfer.remote import PIECE_BYTES, Advance, SignedManifest, TransferError
from model_store.transfer.store_layout import one_task


class Folder:
    """The live version of one task of a store on disk."""

    def __init__(self, name: str, root: Path, task: str | None) -> None:
        self.name = name
        self.task = task
        self._store = Store(root)
        self._added: dict[str, Path] = {}  # files by SHA-256, which `publish` moves into the store
        self._copies = ExitStack()  # unlocks and removes those that `publish` has not moved

    def current(self, task: str | None) -> SignedManifest | None:
        """The live version; None if there is no store, no such task, or no live version."""
        tasks = self._store.tasks()
        task = task or one_task(self.name, tasks)
        if task not in tasks or self._store.live(task) is None:
            return None
        manifest, content = self._store.read_manifest(task)
        version = manifest.version
        return SignedManifest(
            content, self._store.signature(task, version), self._store.openssf_signature(task, version)
        )

    def pinned(self) -> str:
        """The target: `live` of a folder may change."""
        return self.name

    def has(self, blob: Blob) -> bool:
        """Whether the store has a blob, undamaged."""
        return self._store.holds(blob)

    def fetch(self, blob: Blob, offset: int) -> Generator[bytes, None, None]:
        """The bytes of a blob from `offset` on."""
        with self._store.open(blob) as file:
            file.seek(offset)
            while piece := file.read(PIECE_BYTES):
                yield piece

    def add(self, blob: Blob, file: BinaryIO, advance: Advance) -> None:
        """Copy a blob to the file system of the store. `publish` makes it visible."""
        name = f"{blob.sha256}.{uuid.uuid4().hex}"  # no other transfer waits for it, or resumes it
        path = incoming_path(self._store.root, name)
        copy = self._copies.enter_context(incoming_file(self._store.root, name))
        self._copies.callback(path.unlink, missing_ok=True)
        digest = hashlib.sha256()
        while piece := file.read(PIECE_BYTES):
            copy.write(piece)
            digest.update(piece)
            advance(len(piece))
        copy.flush()
        os.fsync(copy.fileno())
        if digest.hexdigest() != blob.sha256:
            raise TransferError(f"blob {blob.sha256} changed while it was copied; push the version again")
        self._added[blob.sha256] = path

    def publish(self, manifest: Manifest, signed: SignedManifest) -> None:
        """Add the version and make it live, unless the task is withdrawn there."""
        publishing.add_version(self._store, *signed, self._added)
        if not self._store.is_withdrawn(manifest.task):
            publishing.activate(self._store, manifest.task, manifest.version)

    def close(self) -> None:
        """Remove the files that were added and not published."""
        self._copies.close()
