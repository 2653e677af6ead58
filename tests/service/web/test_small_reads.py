"""What a connection gets at once is limited, on every event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvicorn
import uvloop

from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.web.connections import Connections
from service.web.small_reads import READ_BYTES, SmallReads


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("size", [1, READ_BYTES, 3_000_000])
def test_a_body_arrives_whole_in_small_parts(new_loop: Callable[[], asyncio.AbstractEventLoop], size: int):
    body = bytes(range(256)) * (size // 256) + b"a" * (size % 256)
    parts: list[bytes] = []

    async def application(scope, receive, send) -> None:
        message = {"more_body": True}
        while message["more_body"]:
            message = await receive()
            parts.append(message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def scenario() -> list[bytes]:
        config = uvicorn.Config(application, ws="none", log_config=None)
        state = Connections(Settings(), Metrics())
        server = await asyncio.get_running_loop().create_server(lambda: SmallReads(config, state, {}), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        answers = []
        for _ in range(2):  # on one connection
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body)
            answers.append((await reader.readuntil(b"\r\n\r\n"))[:12])
        writer.close()
        await asyncio.sleep(0.1)
        assert not state.connections  # it was told that the client left
        server.close()
        return answers

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(asyncio.wait_for(scenario(), 30)) == [b"HTTP/1.1 200"] * 2
    assert b"".join(parts) == body * 2
    assert max(map(len, parts)) <= READ_BYTES


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("leave", [asyncio.StreamWriter.write_eof, asyncio.StreamWriter.close])
def test_a_client_that_ends_only_its_half_counts_as_one_that_left(new_loop, leave):
    """Over TCP both look alike, and the work for a client that left must be dropped."""
    messages: list[str] = []

    async def scenario() -> None:
        has_body, is_gone = asyncio.Event(), asyncio.Event()

        async def application(scope, receive, send) -> None:
            messages.append((await receive())["type"])
            has_body.set()
            messages.append((await receive())["type"])
            is_gone.set()

        config = uvicorn.Config(application, ws="none", log_config=None)
        state = Connections(Settings(), Metrics())
        server = await asyncio.get_running_loop().create_server(lambda: SmallReads(config, state, {}), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na")
        await has_body.wait()
        leave(writer)
        await is_gone.wait()
        writer.close()
        server.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), 30))
    assert messages == ["http.request", "http.disconnect"]
