"""HTTP as bytes, for what no client library would send."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterable
from contextlib import suppress

HANG_SECONDS = 60.0
ANSWER_SECONDS = 20.0


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


def exchange(port: int, data: bytes, patience_seconds: float = 3.0) -> tuple[bytes, bool]:
    """What comes back for these bytes, and whether the service has then closed the connection."""
    with connect(port) as connection:
        received = b""
        try:
            with suppress(ConnectionError):
                connection.sendall(data)
            connection.settimeout(ANSWER_SECONDS)
            while not _is_whole(received):
                part = connection.recv(65_536)
                if not part:
                    return received, True
                received += part
            connection.settimeout(patience_seconds)
            while part := connection.recv(65_536):  # of another answer
                received += part
            return received, True
        except TimeoutError:
            return received, False
        except ConnectionError:
            return received, True


def _is_whole(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100 "):  # an answer follows
        return _is_whole(body)
    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    return bool(found) and length is not None and len(body) >= int(length[1])


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""


def events_named(running: object, name: str) -> list[dict]:
    """The log lines of a running service that say so."""
    return [event for event in list(running.events) if event["event"] == name]
