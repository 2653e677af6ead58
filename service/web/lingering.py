"""The end of a connection whose client may still be sending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Lingering:
    """A transport whose `close` lets the client read what was written before the connection is gone.

    A socket that is closed while bytes arrive is reset, and a reset can overtake the answer. So the first `close` only
    ends our half; whoever owns the connection drops what still comes, and closes again when that is enough. The
    transport also closes when the client does.

    Args:
        may_still_send: asked by `close`: whether the client has perhaps not sent all it wants to send.
    """

    def __init__(self, transport: asyncio.Transport, may_still_send: Callable[[], bool]) -> None:
        self._transport = transport
        self._may_still_send = may_still_send
        self._lingers = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def close(self) -> None:
        if self._lingers or self._transport.is_closing() or not self._may_still_send():
            self._transport.close()
            return
        self._lingers = True
        self._transport.write_eof()
        self._transport.resume_reading()

    def is_closing(self) -> bool:
        return self._lingers or self._transport.is_closing()
