"""Versions that move between this store and other places: registries, buckets, the Hugging Face hub, folders.

`push`, `pull` and `Follower` know only the protocol `Remote`; each kind of place implements it in a module of its own.
The room imports the store and what is below it. It imports the libraries of buckets and of the hub (the extra
`transfer`) only when a target needs them.
"""

from model_store.transfer.following import Follower
from model_store.transfer.progress import TransferBar, TransferCount
from model_store.transfer.pulling import pinned, pull
from model_store.transfer.pushing import push
from model_store.transfer.remote import Remote, TransferError, UnreachableError
from model_store.transfer.target import open_remote

__all__ = [
    "Follower",
    "Remote",
    "TransferBar",
    "TransferCount",
    "TransferError",
    "UnreachableError",
    "open_remote",
    "pinned",
    "pull",
    "push",
]
