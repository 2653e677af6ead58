"""HOST/REPOSITORY:TAG, the name of an image in a registry."""

from __future__ import annotations

import re
from typing import NamedTuple

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?"
_WORD = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_TAG, _DIGEST = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", r"sha256:[0-9a-f]{64}"
_FORM = re.compile(rf"({_HOST})/({_WORD}(?:/{_WORD})*)(?::({_TAG})|@({_DIGEST}))?")


class RegistryReference(NamedTuple):
    """An image in a registry."""

    host: str  # with a port, if it is not the usual one
    repository: str
    tag: str  # or the digest of an image manifest, `sha256:` and 64 digits

    @property
    def is_digest(self) -> bool:
        """Whether this names an image manifest that cannot change."""
        return ":" in self.tag


def parse_reference(text: str) -> RegistryReference | None:
    """HOST/REPOSITORY, with :TAG (by default `latest`) or @DIGEST; None if the text has another form."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    host, repository, tag, digest = match.groups()
    return RegistryReference(host, repository, digest or tag or "latest")
