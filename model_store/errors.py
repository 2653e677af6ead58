"""Errors of the store."""


class StoreError(Exception):
    """An operation of the store failed. The message names the file or task, and the remedy."""


class NotFoundError(StoreError):
    """The task or version does not exist."""


class CorruptError(StoreError):
    """A file does not match its manifest: it is missing, damaged, replaced, a link, or not a regular file.

    `reason` is a label for metrics: `manifest`, `size`, `sha256`, `link`, `missing`, `unreadable`.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class UntrustedError(StoreError):
    """No trusted key has signed this manifest: it is unsigned, altered, or signed by another key."""

    reason = "untrusted"
