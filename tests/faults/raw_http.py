"""HTTP as bytes, for what no client library would send."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterable

HANG_SECONDS = 60.0


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=HANG_SECONDS)


def request(method: str, path: str, *headers: str, body: bytes = b"", host: str | None = "test") -> bytes:
    """The bytes of a request; the body's length is among its headers."""
    lines = [f"{method} {path} HTTP/1.1", *([] if host is None else [f"Host: {host}"]), *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def classify(text: str = "a red apple", *headers: str) -> bytes:
    return request("POST", "/classify", *headers, body=json.dumps({"text": text}).encode())


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer; status 0 where the connection ends instead."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = _receive(connection)
        if not piece:
            return 0, {}, data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        piece = _receive(connection)
        if not piece:
            break
        body += piece
    return int(first.split()[1]), headers, body


def is_closed(connection: socket.socket) -> bool:
    """Read until the other end closes; False when it does not."""
    try:
        while _receive(connection):
            pass
    except TimeoutError:
        return False
    return True


def trickle(connection: socket.socket, pieces: Iterable[bytes], seconds: float) -> bool:
    """Send a piece now and then until the other end has had enough; whether it has."""
    connection.settimeout(seconds)
    for piece in pieces:
        try:
            connection.sendall(piece)
            if not connection.recv(65536):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def ask(port: int, data: bytes) -> tuple[int, dict[str, str], bytes]:
    with connect(port) as connection:
        connection.sendall(data)
        return read_answer(connection)


def scrape(url: str) -> dict[str, float]:
    """Every series of a page of metrics."""
    with urllib.request.urlopen(url, timeout=HANG_SECONDS) as response:
        lines = response.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""


def events_named(running: object, name: str) -> list[dict]:
    """The log lines of a running service that say so."""
    return [event for event in list(running.events) if event["event"] == name]
