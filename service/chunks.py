"""HTTP/1.1 as uvicorn speaks it, with a limit on the chunks of one body: each costs time, however little it holds."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MAX_CHUNKS = 65_536


class FewChunks(HttpToolsProtocol):
    """Answers 400 and closes the connection when a body comes in more chunks than anyone needs."""

    _chunks = 0

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._chunks = 0

    def on_chunk_header(self) -> None:
        """The parser's callback; what it raises is a malformed request to uvicorn."""
        self._chunks += 1
        if self._chunks > _MAX_CHUNKS:
            raise ValueError(f"a body may have {_MAX_CHUNKS} chunks")
