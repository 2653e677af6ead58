"""Clients that ask for HTTP/2 or a websocket: the service ignores that, and reads their bodies as bodies."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time

import pytest

from tests.support.faults.attacking import FORM, as_form, as_json
from tests.support.faults.raw_http import connect, is_closed, read_answer, request
from tests.support.waiting import wait_until

INNER = b"GET /tasks HTTP/1.1\r\nHost: a\r\nX-Request-ID: inner\r\n\r\n"
BODY = as_form(("task", b"fruit"), ("text", INNER))  # a good request, whose text is another request
CHUNKED = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:100], BODY[100:])) + b"0\r\n\r\n"
UPGRADES = {
    "HTTP/2 of Java and curl": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA"),
    "a websocket": (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: YQ==",
    ),
    "TLS, and an expectation": ("Connection: upgrade", "Upgrade: TLS/1.2, HTTP/1.1", "Expect: 100-continue"),
    "nothing": (),
}
FRAMINGS = {"length": (f"Content-Length: {len(BODY)}", BODY), "chunks": ("Transfer-Encoding: chunked", CHUNKED)}


def head(path: str, *headers: str, content_type: str = FORM) -> bytes:
    return request("POST", path, f"Content-Type: {content_type}", "X-Request-ID: outer", *headers)


def send(connection: socket.socket, data: bytes, cuts: list[int]) -> None:
    """Send the data in segments that end at these places."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        connection.sendall(data[start:end])
        time.sleep(0.02)


def final_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The next answer that is not `100 Continue`."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", UPGRADES)
@pytest.mark.slow
def test_a_body_is_never_the_next_request(target, name, framing):
    header, body = FRAMINGS[framing]
    begin = head("/classify", header, *UPGRADES[name])
    for cuts in (
        [],
        [len(begin)],
        [len(begin) - 1],
        [len(begin) + body.index(INNER)],
        [len(begin) // 2, len(begin) + 9],
    ):
        with target.unharmed(), connect(target.port) as connection:
            send(connection, begin + body, cuts)
            status, headers, answer = final_answer(connection)
            assert (status, headers["x-request-id"], json.loads(answer)["task"]) == (200, "outer", "fruit"), cuts
            connection.sendall(request("GET", "/livez", "X-Request-ID: next"))
            status, headers, _ = read_answer(connection)
            assert (status, headers["x-request-id"]) == (200, "next"), cuts


REFUSED = {
    "an unknown path": (head("/nothing"), 404, {"not_found": 1}),
    "another content type": (head("/classify", content_type="text/plain"), 415, {"content_type": 1}),
    "a query": (head("/classify?task=fruit"), 422, {"extra_field": 1}),
    "a long body": (head("/classify"), 413, {"body_too_large": 1}),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("upgrade", UPGRADES)
def test_an_early_refusal_ends_the_connection(target, name, upgrade):
    """What then still arrives of the body is dropped."""
    begin, status, counted = REFUSED[name]
    length = 3_000_000 if status == 413 else 1_000
    begin = begin[:-2] + "\r\n".join([*UPGRADES[upgrade], f"Content-Length: {length}", "", ""]).encode()
    with target.unharmed(**counted), connect(target.port) as connection:
        send(connection, begin, [])
        answered, headers, _ = final_answer(connection)
        assert (answered, headers["connection"]) == (status, "close")
        send(connection, INNER * 3, [len(INNER), len(INNER) + 10])
        assert is_closed(connection)
        assert not any(event.get("client_request_id") == "inner" for event in target.running.events)


def test_a_get_that_asks_for_a_websocket_is_answered(target):
    for path, status in (("/tasks", 200), ("/livez", 200), ("/classify", 405), ("/nothing", 404)):
        with connect(target.port) as connection:
            connection.sendall(request("GET", path, *UPGRADES["a websocket"]))
            assert read_answer(connection)[0] == status


def test_a_connection_ends_although_its_client_sends_more(shelf, server):
    """It says that it closes, sends another request, and does not close."""
    shelf.publish("fruit")
    running = server(shelf.store, header_seconds=1)
    for last in (("Connection: close",), ("Connection: Upgrade, close", "Upgrade: h2c")):
        files = running.open_files
        with connect(running.port) as connection:
            connection.sendall(request("GET", "/tasks", *last) + INNER + INNER[:9])
            assert read_answer(connection)[0] == 200
            assert wait_until(lambda files=files: running.open_files <= files, 20)


@pytest.mark.parametrize("flags", [["--http2"], ["--http2", "--no-keepalive", "--header", "Expect: 100-continue"], []])
def test_curl_is_answered(target, tmp_path, flags):
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed (Debian: apt install curl)")
    (tmp_path / "body").write_bytes(as_json().ljust(1_000_000))
    command = [curl, "--silent", "--max-time", "30", *flags, "--header", "Content-Type: application/json"]
    command += ["--data-binary", f"@{tmp_path / 'body'}", f"http://127.0.0.1:{target.port}/classify"]
    with target.unharmed():
        done = subprocess.run([*command, *command[-1:]], capture_output=True, check=True)
    assert done.stdout.count(b'"task":"fruit"') == 2
