"""Reading from sockets in small steps."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn

from service.web.connections import Connection, Connections

READ_BYTES = 32_768


class SmallReads(asyncio.BufferedProtocol):
    """The protocol of a connection, which gets at most READ_BYTES at once; event loops would read 256 KB.

    So a connection that has paused reading holds no more than that.
    """

    _buffer = memoryview(bytearray(READ_BYTES))  # shared, because what arrives is copied out of it at once

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._connection = Connection(config, server_state, app_state, _loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._connection.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> None:
        self._connection.eof_received()  # then the transport closes: a client that left ends its half, too

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()
