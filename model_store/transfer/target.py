"""The places that a TARGET of the command line names."""

from __future__ import annotations

import re
from pathlib import Path

from model_store.manifest import TASK_NAME
from model_store.transfer.registry_reference import parse_reference
from model_store.transfer.remote import Remote, TransferError

_FORMS = "oci://HOST/REPOSITORY:TAG, s3://BUCKET/PREFIX (gs://, az://), hf://OWNER/NAME, or a folder"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9_=+.-]+)*/?")
_HUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def open_remote(target: str, *, plain_http: bool = False) -> Remote:
    """The place that a target names. Nothing is requested yet, and libraries of other places are not loaded.

    Raises TransferError for an invalid target; the message does not repeat it, because it may contain a password.
    """
    match = _SCHEME.fullmatch(target)
    if match is None:
        return _folder(target)
    scheme, place = match.groups()
    if scheme == "oci":
        from model_store.transfer.registry import Registry

        reference = parse_reference(place)
        if reference is None:
            raise _wrong("oci://HOST/REPOSITORY:TAG")
        return Registry(target, reference, plain_http=plain_http)
    if scheme in ("s3", "gs", "az"):
        from model_store.transfer.bucket import Bucket

        place, task = _split_task(place)
        if not _BUCKET.fullmatch(place) or {".", ".."} & {*place.split("/")}:
            raise _wrong(f"{scheme}://BUCKET/PREFIX")
        return Bucket(target, f"{scheme}://{place}", task, plain_http=plain_http)
    if scheme == "hf":
        from model_store.transfer.hub import Hub

        place, task = _split_task(place)
        if not _HUB.fullmatch(place):
            raise _wrong("hf://OWNER/NAME")
        return Hub(target, place, task)
    raise TransferError(f"{scheme}:// names no place; a target is {_FORMS}")


def _folder(target: str) -> Remote:
    from model_store.transfer.folder import Folder

    if not target or "\0" in target:
        raise TransferError(f"the target is empty; a target is {_FORMS}")
    place, task = (target, None) if Path(target).exists() else _split_task(target)
    return Folder(target, Path(place), task)


def _split_task(place: str) -> tuple[str, str | None]:
    """A place that may end with :TASK."""
    start, colon, task = place.rpartition(":")
    return (start, task) if colon and re.fullmatch(TASK_NAME, task) else (place, None)


def _wrong(form: str) -> TransferError:
    return TransferError(f"the target does not have the form {form}; correct it, and leave passwords out of it")
