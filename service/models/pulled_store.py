"""A store that the settings name by targets: what they point to is pulled into a folder, and served from there."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import structlog

from model_store import Store, StoreError, read_trusted_keys
from model_store.messages import describe_error
from service.settings import Settings

if TYPE_CHECKING:  # the functions below import them, because a service with a folder starts faster without
    from model_store.transfer import TransferCount

_log = structlog.get_logger()


def pull_shown(settings: Settings, exit_status: int | None = None) -> None:
    """`pull_store` with a bar on the terminal. A signal ends the process at once, by default with its own status."""
    if settings.targets:
        from model_store.transfer_commands import shown_transfer

        with shown_transfer(exit_status) as count:
            pull_store(settings, count)


def pull_store(settings: Settings, count: TransferCount | None = None) -> None:
    """Pull the versions that the targets of the settings point to, and make them live; blocking.

    If a target cannot be pulled, what an earlier start has pulled is served.

    Args:
        count: shows or counts the bytes that are fetched.

    Raises:
        StoreError: a target cannot be pulled, and the folder has no live version.
        OSError: the same, because of the disk.
        ValueError: the file of trusted keys is unusable.
    """
    if not settings.targets:
        return
    from model_store.transfer import Follower, open_remote

    store = Store(settings.store_folder, read_trusted_keys(settings.trusted_keys))
    failed: StoreError | OSError | None = None
    for target in settings.targets:
        try:
            with closing(open_remote(target, plain_http=settings.plain_http)) as remote:
                Follower(remote, store, partial(_log_change, target), count).step()
        except (StoreError, OSError) as error:
            failed = failed or error
            problem = describe_error(error)
            _log.warning("store_not_pulled", target=target, problem=problem)
    if failed is not None and not any(_is_live(store, task) for task in store.tasks()):
        raise failed


def _is_live(store: Store, task: str) -> bool:
    try:
        return store.live(task) is not None
    except StoreError:
        return False


def _log_change(target: str, line: str) -> None:
    _log.info("store_pulled", target=target, change=line)
