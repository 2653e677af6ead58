"""A store in a bucket: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, BinaryIO

from model_store.manifest import Blob, Manifest
from model_store.transfer.remote import (
    CONNECT_SECONDS,
    PIECE_BYTES,
    READ_SECONDS,
    Advance,
    SignedManifest,
    TransferError,
    UnreachableError,
)
from model_store.transfer.steady import whole
from model_store.transfer.store_layout import blob_name, live_version, new_files, one_task

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

_PART_BYTES = 8 * PIECE_BYTES  # of an upload; a file of up to 10,000 parts
_CHUNK_BYTES = 64 * 1024  # of a download
_LONGEST_REQUEST = timedelta(hours=1)  # a longer one is resumed
_MACHINE_ADDRESS = "169.254.169.254"
_ACCOUNTS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class Bucket:
    """The live version of one task of a store in a bucket.

    Endpoints and credentials come from the variables of each provider, such as AWS_ACCESS_KEY_ID, from the metadata
    service of a machine, or from a workload identity.
    """

    def __init__(self, name: str, url: str, task: str | None, *, plain_http: bool) -> None:
        self.name = name
        self.task = task
        self._variables = _ACCOUNTS[url.partition(":")[0]]
        self._objects = _open(name, url, self._variables, plain_http=plain_http)

    def current(self, task: str | None) -> SignedManifest | None:
        """The live version; None if there is no store, no such task, or no live version."""
        task = task or one_task(self.name, self._tasks())
        return None if task is None else live_version(self.name, task, self._read)

    def pinned(self) -> str:
        """The target: `live` of a bucket may change."""
        return self.name

    def has(self, blob: Blob) -> bool:
        """Whether the bucket has an object of the blob's name and size."""
        from obstore import head

        try:
            with self._errors():
                return head(self._objects, blob_name(blob))["size"] == blob.size
        except FileNotFoundError:
            return False

    def fetch(self, blob: Blob, offset: int) -> Generator[bytes, None, None]:
        """The bytes of a blob from `offset` on."""
        from obstore import get

        try:
            with self._errors():
                result = get(self._objects, blob_name(blob), options={"range": {"offset": offset}} if offset else None)
                for piece in result.stream(_CHUNK_BYTES):
                    yield bytes(piece)
        except FileNotFoundError:
            raise TransferError(f"{self.name} lacks blob {blob.sha256} of the version; push it again") from None

    def add(self, blob: Blob, file: BinaryIO, advance: Advance) -> None:
        """Upload a blob, which appears once it is complete."""
        self._put(blob_name(blob), _counted(file, advance))

    def publish(self, manifest: Manifest, signed: SignedManifest) -> None:
        """Write the version's own files, and `live` last."""
        for name, content in new_files(self.name, manifest, signed, self._read).items():
            self._put(name, content)

    def close(self) -> None:
        """Nothing to release: the connections close with the object."""

    def _put(self, name: str, content: bytes | Iterator[bytes]) -> None:
        from obstore import put

        try:
            with self._errors():
                put(self._objects, name, content, chunk_size=_PART_BYTES, max_concurrency=2)
        except FileNotFoundError:
            raise TransferError(f"{self.name}: the bucket does not exist; create it, or correct the target") from None

    def _read(self, name: str, max_bytes: int) -> bytes | None:
        from obstore import get

        try:
            with self._errors():
                pieces = map(bytes, get(self._objects, name).stream(1))
                return whole(pieces, max_bytes, f"{name} at {self.name}")
        except FileNotFoundError:
            return None

    def _tasks(self) -> list[str]:
        from obstore import list_with_delimiter

        with self._errors():
            folders = list_with_delimiter(self._objects, "tasks/")["common_prefixes"]
        return [folder.rstrip("/").rpartition("/")[2] for folder in folders]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the library's errors, whose messages have addresses and answers in them, into one line.

        An object that does not exist raises FileNotFoundError.
        """
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError):
            cure = f"set {self._variables} to an account with access (push needs write access)"
            raise TransferError(f"{self.name} refuses access; {cure}") from None
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            if _MACHINE_ADDRESS in str(error):  # where a machine in a cloud would have given credentials
                raise TransferError(f"{self.name} needs credentials; set {self._variables}") from None
            raise UnreachableError(f"{self.name} gives no whole answer: {_kind(str(error))}") from None


def _open(name: str, url: str, variables: str, *, plain_http: bool) -> ObjectStore:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ModuleNotFoundError:
        raise TransferError(f"{name} needs obstore; install it: pip install 'mora-serve[transfer]'") from None
    options: ClientConfig = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=READ_SECONDS),
        "timeout": _LONGEST_REQUEST,
    }
    if plain_http:
        options["allow_http"] = True
    retries = {"max_retries": 2, "retry_timeout": timedelta(seconds=2 * READ_SECONDS)}
    try:
        return from_url(url, client_options=options, retry_config=retries)  # type: ignore[call-overload, no-any-return]
    except (BaseError, ValueError):
        raise TransferError(f"{name} cannot be opened; set {variables}") from None


def _counted(file: BinaryIO, advance: Advance) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece
        advance(len(piece))


def _kind(message: str) -> str:
    """The kind of an error of the library."""
    status = re.search(r"status code: (\d{3})", message)
    if status is not None:
        return f"it answers {status[1]}"
    kinds = {
        "BadScheme": "its address has no TLS; --plain-http allows this",
        "ConnectionRefused": "connection refused",
        "dns error": "the name of the host is unknown",
        "kind: Timeout": "nothing arrived in time",
        "TimedOut": "nothing arrived in time",
        "certificate": "its certificate is not trusted",
        "kind: Connect": "no connection",
    }
    return next((kind for sign, kind in kinds.items() if sign in message), "the connection ended")
