"""Closing a connection whose client may still be sending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Lingering:
    """A transport whose `close` lets the client read the answer first.

    Closing a socket while bytes arrive resets the connection, and the reset can overtake the answer. So the first
    `close` ends only the server's half. The connection drops the bytes that still arrive and closes a second time once
    they exceed its limit. The transport also closes when the client does.

    Args:
        may_still_send: called by `close`; whether the client may still be sending its request.
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
