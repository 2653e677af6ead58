"""The places that a TARGET of the command line names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from model_store.manifest import TASK_NAME
from model_store.transfer.remote import Remote, TransferError

_FORMS = "oci://HOST/REPOSITORY:TAG, s3://BUCKET/PREFIX (gs://, az://), hf://OWNER/NAME, or a folder"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?"
_WORD = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_OCI = re.compile(
    rf"({_HOST})/({_WORD}(?:/{_WORD})*)(?::([A-Za-z0-9_][\w.-]{{0,127}})|@(sha256:[0-9a-f]{{64}}))?", re.ASCII
)
_BUCKET = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)((?:/[A-Za-z0-9_=+.-]+)*)/?")
_HUB = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)", re.ASCII)


class RegistryTarget(NamedTuple):
    """A version in a registry."""

    host: str
    repository: str
    reference: str  # a tag, or the digest of an image manifest


def open_remote(target: str, *, plain_http: bool = False) -> Remote:
    """The place that a target names. Nothing is requested yet, and modules of other places are not loaded.

    Raises TransferError for an invalid target. The message repeats none that may contain a password.
    """
    match = _SCHEME.fullmatch(target)
    if match is None:
        return _folder(target)
    scheme, rest = match.groups()
    if scheme == "oci":
        from model_store.transfer.registry import Registry

        return Registry(target, parse_registry(rest), plain_http=plain_http)
    if scheme in ("s3", "gs", "az"):
        from model_store.transfer.bucket import Bucket

        place, task = _task_after(rest)
        bucket, prefix = _groups(_BUCKET, place, f"{scheme}://BUCKET/PREFIX")
        if {".", ".."} & {*prefix.split("/")}:
            raise TransferError(f"{scheme}://BUCKET/PREFIX takes no prefix with '.' or '..'; correct the target")
        return Bucket(target, f"{scheme}://{bucket}{prefix}", task, plain_http=plain_http)
    if scheme == "hf":
        from model_store.transfer.hub import Hub

        place, task = _task_after(rest)
        return Hub(target, *_groups(_HUB, place, "hf://OWNER/NAME"), task)
    raise TransferError(f"a target is {_FORMS}; {scheme}:// is none of them")


def parse_registry(place: str) -> RegistryTarget:
    """HOST/REPOSITORY with :TAG (by default `latest`) or @DIGEST. Raises TransferError."""
    host, repository, tag, digest = _groups(_OCI, place, "oci://HOST/REPOSITORY:TAG")
    return RegistryTarget(host, repository, digest or tag or "latest")


def _folder(target: str) -> Remote:
    from model_store.transfer.folder import Folder

    if not target or "\0" in target:
        raise TransferError(f"a target is {_FORMS}; this one is empty")
    place, task = (target, None) if Path(target).exists() else _task_after(target)
    return Folder(target, Path(place), task)


def _task_after(place: str) -> tuple[str, str | None]:
    """A place that may end with :TASK."""
    start, colon, task = place.rpartition(":")
    return (start, task) if colon and re.fullmatch(TASK_NAME, task) else (place, None)


def _groups(form: re.Pattern[str], place: str, shown: str) -> tuple[str, ...]:
    match = form.fullmatch(place)
    if match is None:
        cure = "correct it, and give no password in it: `docs/transfer.md` says where credentials come from"
        raise TransferError(f"the target does not have the form {shown}; {cure}")
    return match.groups()
