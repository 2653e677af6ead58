"""Files of a Python package, served from memory."""

from __future__ import annotations

import asyncio
import functools
import os
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Receive, Scope, Send

_PIECE_BYTES = 64 * 1024  # what a client that does not read makes the server hold


class PackageFiles(StaticFiles):
    """The files in a folder of a package.

    Starlette's own answer reads each piece of a file on a thread. A thousand clients that ask for large files and do
    not read them then keep the event loop busy for seconds, and a probe waits that long.
    """

    def __init__(self, package: str, folder: str) -> None:
        super().__init__(packages=[(package, folder)])

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        if isinstance(response, NotModifiedResponse):
            return response
        del response.headers["accept-ranges"]
        return _InPieces(_content(os.fspath(full_path)), status_code, response.headers)


@functools.cache
def _content(path: str) -> bytes:
    return Path(path).read_bytes()


class _InPieces(Response):
    """An answer that is written as fast as its client reads it, in turn with other work of the event loop."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.body), _PIECE_BYTES):
            piece = self.body[start : start + _PIECE_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body"})
