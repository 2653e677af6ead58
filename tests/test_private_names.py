"""Names of libraries that the code uses though nothing promises them: an upgrade that takes one away fails here first.

Those of the training libraries are in tests/training/test_private_names.py, those of Ray in tests/deploy/ray.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from unittest.mock import Mock

import httptools
import onnx
import onnxruntime
import pytest
import typer
import uvicorn
from typer.testing import CliRunner
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

ROOT = Path(__file__).parents[1]
READ_WITH = {
    "uvicorn": ("0.54", ["service/web/connections.py", "service/web/server.py"]),
    "httptools": ("0.9", ["service/web/connections.py"]),
    "onnxruntime": ("1.31", ["service/models/graphs.py", "training/export/quantization.py"]),
    "fastapi-offline": ("1.7", ["service/web/app.py", "service/web/routes.py"]),
    "typer": ("0.29", ["service/cli.py", "model_store/command_line.py"]),
    "torch": ("2.13", ["training/model/classifier.py", "training/model/mora.py"]),
    "transformers": ("5.23", ["training/learning/trainer.py", "training/model/towers.py"]),
    "peft": ("0.21", ["training/model/methods.py", "training/model/peft_merge.py"]),
}


@pytest.mark.parametrize("library", READ_WITH)
def test_a_library_is_of_the_release_whose_source_was_read(library):
    release, paths = READ_WITH[library]
    cure = f"see whether what {', '.join(paths)} use is as before in {library}'s source; then write the release here"

    assert [path for path in paths if not (ROOT / path).is_file()] == []
    assert version(library).startswith(f"{release}."), cure


def transport() -> Mock:
    fake = Mock(spec=asyncio.Transport)
    fake.get_extra_info.return_value = None
    fake.is_closing.return_value = False
    return fake


async def no_application(scope, receive, send):
    raise AssertionError("no request was made")


def config(**options) -> uvicorn.Config:
    return uvicorn.Config(no_application, http=HttpToolsProtocol, ws="none", lifespan="off", log_config=None, **options)


def test_uvicorns_protocol_has_the_state_that_connections_read_and_change():
    """service/web/connections.py; uvicorn 0.54."""
    seen = []

    async def application(scope, receive, send):
        seen.append((scope, await receive()))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def exchange(*, keep_alive: bool) -> tuple[HttpToolsProtocol, Mock]:
        state = ServerState()
        connection = HttpToolsProtocol(config(), state, {})
        connection.connection_made(transport())
        assert state.connections == {connection}
        assert state.default_headers == []
        assert connection.cycle is None
        connection.app = application  # wrapped after connection_made
        connection.parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        cycle = connection.cycle
        assert (cycle.keep_alive, cycle.response_started, cycle.response_complete) == (True, False, False)
        cycle.keep_alive = keep_alive
        await asyncio.sleep(0)
        assert seen == []
        cycle.message_event.set()  # wakes the application, which waits for the rest of the body
        await asyncio.gather(*state.tasks)
        assert (cycle.response_started, cycle.response_complete) == (True, True)
        assert seen.pop()[0] is connection.scope
        return connection, connection.transport

    async def exchanges() -> None:
        kept, open_transport = await exchange(keep_alive=True)
        assert kept.timeout_keep_alive_task is not None
        kept._unset_keepalive_if_required()
        assert kept.timeout_keep_alive_task is None
        open_transport.close.assert_not_called()
        _, closed_transport = await exchange(keep_alive=False)
        assert b"connection: close" in b"".join(call.args[0] for call in closed_transport.write.call_args_list)
        closed_transport.close.assert_called_once()

    asyncio.run(exchanges())
    assert STATUS_LINE[400] == b"HTTP/1.1 400 Bad Request\r\n"
    for callback in ("message_begin", "url", "header", "headers_complete", "body", "message_complete"):
        assert hasattr(HttpToolsProtocol, f"on_{callback}")


def test_uvicorns_server_ticks_ten_times_a_second_and_takes_other_state(monkeypatch):
    """service/web/server.py; uvicorn 0.54."""
    ticks, pauses, sleep, this_thread = [], [], asyncio.sleep, threading.get_ident()

    async def no_pause(seconds: float) -> None:
        if threading.get_ident() == this_thread:  # not what another server of this process waits for
            pauses.append(seconds)
        await sleep(0)

    class ThreeTicks(uvicorn.Server):
        async def on_tick(self, counter: int) -> bool:
            ticks.append((counter, self.started, len(self.servers), self.should_exit, self.force_exit))
            assert not await super().on_tick(counter)
            return len(ticks) == 3

    async def serve() -> None:
        await server.serve()
        assert hasattr(server.lifespan, "shutdown")

    monkeypatch.setattr(asyncio, "sleep", no_pause)
    server = ThreeTicks(config(port=0))
    server.server_state = state = ServerState()
    asyncio.run(serve())

    assert ticks == [(counter, True, 1, False, False) for counter in range(3)]
    assert pauses[:2] == [0.1, 0.1]
    assert server.server_state is state
    assert server.config.timeout_graceful_shutdown is None
    assert [*inspect.signature(server.handle_exit).parameters] == ["sig", "frame"]


def test_httptools_names_what_a_callback_raised_and_counts_chunks():
    """service/web/connections.py; httptools 0.9."""

    class Callbacks:
        chunks = 0

        def on_header(self, name: bytes, value: bytes) -> None:
            if name == b"Bad":
                raise KeyError(name)

        def on_chunk_header(self) -> None:
            self.chunks += 1

    callbacks = Callbacks()
    httptools.HttpRequestParser(callbacks).feed_data(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    )
    with pytest.raises(httptools.HttpParserError) as refusal:
        httptools.HttpRequestParser(callbacks).feed_data(b"GET / HTTP/1.1\r\nBad: 1\r\n\r\n")

    assert callbacks.chunks == 3
    assert isinstance(refusal.value.__context__, KeyError)


def test_an_onnx_session_keeps_its_bytes_where_they_can_be_dropped():
    """service/models/graphs.py; onnxruntime 1.31."""
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "main", ports[:1], ports[1:])
    opset = [onnx.helper.make_opsetid("", 17)]
    data = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    assert session._model_bytes is data
    session.disable_fallback()
    session._model_bytes = None

    assert session.run(None, {"x": [2.0]})[0] == [-2.0]
    assert callable(onnxruntime.create_and_register_allocator)


def test_fastapi_offline_has_the_files_of_the_api_page():
    """service/web/app.py mounts the folder, service/web/routes.py names the files; fastapi-offline 1.7."""
    names = {file.name for file in (files("fastapi_offline") / "static").iterdir()}

    assert {"swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"} <= names


def test_typer_reads_a_signature_that_was_put_onto_a_function():
    """service/cli.py; typer 0.29."""

    def run(**flags: str | None) -> None:
        typer.echo(flags)

    flag = inspect.Parameter("store", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=str | None)
    run.__signature__ = inspect.Signature([flag])
    app = typer.Typer()
    app.command()(run)

    assert CliRunner().invoke(app, ["--store", "models"]).stdout == "{'store': 'models'}\n"
