"""One blob of a remote into a file: resumed, bounded by its size, and verified."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from time import sleep
from typing import BinaryIO

from model_store.manifest import Blob
from model_store.transfer.remote import PIECE_BYTES, Advance, Remote, TransferError, UnreachableError
from model_store.transfer.steady import steady

_ATTEMPTS = 3  # in a row that bring less than a piece
_FIRST_WAIT_SECONDS = 0.5


def receive(remote: Remote, blob: Blob, file: BinaryIO, advance: Advance) -> None:
    """Fetch what the file lacks of a blob, verify all of it, and flush it to disk.

    Bytes that arrived stay in the file if the remote fails, and a later call goes on from there. Bytes that are not the
    blob's do not stay.

    Raises:
        TransferError: the remote has no such blob, or sent more or other bytes.
        UnreachableError: the remote failed several times in a row.
        OSError: the disk is full.
    """
    failures, is_restarted = 0, False
    while True:
        start = _length(file)
        try:
            if _is_completed(remote, blob, file, advance):
                break
        except UnreachableError:
            failures = failures + 1 if file.tell() - start < PIECE_BYTES else 0
            if failures == _ATTEMPTS:
                raise
            sleep(_FIRST_WAIT_SECONDS * 2.0 ** (failures - 1))
            continue
        finally:
            file.flush()
        if start == 0 or is_restarted:
            cure = "if it does so again, remove the blob there and push the version again"
            raise TransferError(f"{remote.name} sent other bytes than blob {blob.sha256} has; {cure}")
        is_restarted = True  # an earlier call may have left the wrong bytes
    os.fsync(file.fileno())


def _is_completed(remote: Remote, blob: Blob, file: BinaryIO, advance: Advance) -> bool:
    """Append the missing bytes. Whether all are the blob's; if not, the file is empty again."""
    if _length(file) > blob.size:
        _empty(file)
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
    length = file.tell()
    if length < blob.size:
        with closing(remote.fetch(blob, length)) as pieces:
            for piece in steady(pieces, remote.name):
                length += len(piece)
                if length > blob.size:
                    _empty(file)
                    problem = f"{remote.name} sent more than the {blob.size} bytes of blob {blob.sha256}"
                    raise TransferError(f"{problem}; remove the blob there and push the version again")
                file.write(piece)
                digest.update(piece)
                advance(len(piece))
        if length < blob.size:
            raise UnreachableError(f"{remote.name} sent {length} of the {blob.size} bytes of blob {blob.sha256}")
    if digest.hexdigest() == blob.sha256:
        return True
    _empty(file)
    return False


def _length(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()
