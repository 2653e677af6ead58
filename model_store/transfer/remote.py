"""What push, pull and follow need of a place outside this store, and the errors of such places."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import BinaryIO, NamedTuple, Protocol

from model_store.errors import StoreError
from model_store.manifest import Blob, Manifest

PIECE_BYTES = 1024 * 1024
CONNECT_SECONDS, READ_SECONDS = 10.0, 20.0
Advance = Callable[[int], None]  # called with the number of further bytes that were moved


class TransferError(StoreError):
    """A remote refused a request, or its answer is not what was asked for. The message contains no credentials."""


class UnreachableError(TransferError):
    """A remote gave no answer, or only a part of one. The same request may succeed later."""


class SignedManifest(NamedTuple):
    """The bytes of a version's `manifest.json`, `manifest.sig` and `model.sig`, as they are in every store."""

    content: bytes
    signature: bytes | None
    openssf: bytes | None


class Remote(Protocol):
    """A place that holds versions and blobs. Nothing that it sends is trusted; the callers verify it.

    Every method raises TransferError. Methods that take or return blobs are called from several threads.
    """

    name: str  # the target as the user wrote it; contains no credentials
    task: str | None  # the task that the target names

    def current(self, task: str | None) -> SignedManifest | None:
        """The version that the target points to, or None if it points to none.

        A place that points to a version of each task needs `task`, unless it has one task. Others ignore it.
        """
        ...

    def pinned(self) -> str:
        """A target that always names the version that this one points to now; this target, if the place has none."""
        ...

    def has(self, blob: Blob) -> bool:
        """Whether the place holds a blob of this digest and size."""
        ...

    def fetch(self, blob: Blob, offset: int) -> Generator[bytes, None, None]:
        """The bytes of a blob from `offset` on, in pieces."""
        ...

    def add(self, blob: Blob, file: BinaryIO, advance: Advance) -> None:
        """Store the content of a blob that the place lacks."""
        ...

    def publish(self, manifest: Manifest, signed: SignedManifest) -> None:
        """Point the target to a version whose blobs are all there. Readers see the old or the new version."""
        ...

    def close(self) -> None:
        """Release connections and files."""
        ...
