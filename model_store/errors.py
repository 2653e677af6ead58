"""What can be wrong with a store, as one small tree."""


class StoreError(Exception):
    """Anything the store refuses; the message names the file or task and the way out."""


class NotFoundError(StoreError):
    """No such task or version."""


class CorruptError(StoreError):
    """A file is not what its manifest says: damaged, replaced, a link, or not a regular file.

    `reason` is a short word for metrics: `manifest`, `size`, `sha256`, `link`, `missing`, `unreadable`.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class UntrustedError(StoreError):
    """No trusted key has signed this manifest as it is: it is unsigned, altered, or signed by or for another."""

    reason = "untrusted"
