"""The requests that are being answered, which the end of a drain cuts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from service.errors import cut_by_drain


class InflightRequests:
    """The handlers of requests. Used on the event loop only."""

    def __init__(self) -> None:
        self._handlers: set[asyncio.Task[object]] = set()
        self._are_cut = False

    @contextmanager
    def cuttable(self) -> Iterator[None]:
        """A handler that `cut` ends. Raises ServiceError `draining` then."""
        handler = cast("asyncio.Task[object]", asyncio.current_task())
        if self._are_cut:
            raise cut_by_drain()
        self._handlers.add(handler)
        try:
            yield
        except asyncio.CancelledError:
            if not self._are_cut:
                raise
            handler.uncancel()
            raise cut_by_drain() from None
        finally:
            self._handlers.discard(handler)

    def cut(self) -> int:
        """End every handler, and each that begins later. Returns how many were ended."""
        self._are_cut = True
        for handler in self._handlers:
            handler.cancel()
        return len(self._handlers)
