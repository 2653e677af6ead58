"""How answers are written to a connection, and how it is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class AnswerTransport:
    """A transport that writes an answer at once, and whose `close` lets the client read it.

    The server writes head and body of an answer separately. If the process were killed between the two, a proxy would
    have forwarded the head and could not ask another replica. So the writes of one turn of the event loop are joined.

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
        self._unwritten: list[bytes] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._unwritten:
            asyncio.get_running_loop().call_soon(self._write_joined)
        self._unwritten.append(data)

    def close(self) -> None:
        self._write_joined()
        if self._lingers or self._transport.is_closing() or not self._may_still_send():
            self._transport.close()
            return
        self._lingers = True
        self._transport.write_eof()
        self._transport.resume_reading()

    def is_closing(self) -> bool:
        return self._lingers or self._transport.is_closing()

    def _write_joined(self) -> None:
        data = b"".join(self._unwritten)
        self._unwritten.clear()
        if data and not self.is_closing():
            self._transport.write(data)
