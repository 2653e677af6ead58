"""Clients that send most of a large body, and then wait with their connections open."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

_SEND_BYTES = 1 << 18
_POLL_SECONDS = 0.2


@contextmanager
def held_bodies(port: int, count: int, head: bytes, content: bytes) -> Iterator[list[bytes]]:
    """`count` clients send `head` and as much of `content`, which they share, as the service reads.

    The answers that the service sends to them are added to the list.
    """
    answers: list[bytes] = []
    ended = threading.Event()
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(head)
            client.setblocking(False)
            selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE, memoryview(content))
        thread = threading.Thread(target=_send, args=(selector, answers, ended))
        thread.start()
        stack.callback(thread.join)
        stack.callback(ended.set)
        yield answers


def _send(selector: selectors.BaseSelector, answers: list[bytes], ended: threading.Event) -> None:
    while not ended.is_set():
        for key, events in selector.select(_POLL_SECONDS):
            client, content = key.fileobj, key.data
            assert isinstance(client, socket.socket)
            if events & selectors.EVENT_READ:
                with suppress(ConnectionError):
                    answers.append(client.recv(65_536))
                selector.unregister(client)
                continue
            with suppress(BlockingIOError, ConnectionError):
                content = content[client.send(content[:_SEND_BYTES]) :]
            selector.modify(client, selectors.EVENT_READ | (selectors.EVENT_WRITE if content else 0), content)
