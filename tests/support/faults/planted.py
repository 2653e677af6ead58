"""`python -m tests.support.faults.planted NAME,NAME run ...`: `mora-serve run` with faults in it, for tests to find."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import service.cli
import service.inference.batching
import service.inference.engine
import service.inference.input_queue
import service.inference.preparation
import service.inference.run_statistics
import service.web.bodies
from service.errors import deadline_unreachable
from service.inference.forward import Admission
from service.inference.input_queue import QueuedInput
from service.models.graphs import Graph
from service.settings import Settings
from service.web.connections import Connection, Connections
from tests.support.tiny import VOCABULARY

RAISES_ON, STALLS_ON = b"\xf5", b"\xf6"  # bytes that no text in UTF-8 has
FOREVER_SECONDS = 600
STALL_SECONDS, BLOCK_SECONDS, LEAK_BYTES = 1.5, 0.3, 2**18
POISON = "green"  # a text with this word breaks the run it is in; no load check has it
_CAPABILITY_VERSION_3 = 0x20080522
SLOW_WORD, SLOW_SECONDS = "square", 4.0

_kept: list[bytes] = []


class Watching:
    """ASGI middleware that lets a fault see every piece of every body."""

    def __init__(self, app: ASGIApp, fault: Callable[[bytes], object]) -> None:
        self._app, self._fault = app, fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched() -> Message:
            message = await receive()
            told = self._fault(message.get("body", b""))
            if asyncio.iscoroutine(told):
                await told
            return message

        await self._app(scope, watched, send)


def raises(body: bytes) -> None:
    """An unexpected exception."""
    if RAISES_ON in body:
        raise RuntimeError("planted")


async def stalls(body: bytes) -> None:
    """A request that takes longer than any client waits."""
    if STALLS_ON in body:
        await asyncio.sleep(STALL_SECONDS)


def leaks(_: bytes) -> None:
    """Memory that is never given back."""
    _kept.append(b"x" * LEAK_BYTES)


def blocks(body: bytes) -> None:
    """Work on the event loop, for which everybody waits."""
    if body:
        time.sleep(BLOCK_SECONDS)


def sleeps(body: bytes) -> None:
    """An event loop that never goes on."""
    if body:
        time.sleep(FOREVER_SECONDS)


def spins(body: bytes) -> None:
    """An event loop that never goes on, and uses the processor."""
    while body:
        pass


def waits(body: bytes) -> None:
    """An event loop that waits for a lock, which nobody releases."""
    if body:
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()


def fetches(body: bytes) -> None:
    """A service that helps itself to what a URL names."""
    for port in re.findall(rb"http://127\.0\.0\.1:(\d+)", body):
        with socket.socket() as connection:
            connection.connect_ex(("127.0.0.1", int(port)))
    for path in re.findall(rb"file://(/[a-z/]+)", body):
        with suppress(OSError):
            Path(path.decode()).read_bytes()


def poison() -> None:
    """One text that breaks the run of an encoder."""

    def fail() -> None:
        raise RuntimeError("planted")

    _before_runs_with(POISON, fail)


def stumbles() -> None:
    """A word that makes the run of an encoder slow."""
    _before_runs_with(SLOW_WORD, lambda: time.sleep(SLOW_SECONDS))


def _before_runs_with(word: str, fault: Callable[[], None]) -> None:
    run, token = Graph.run_on_device, VOCABULARY.index(word)

    def faulty(graph: Graph, *inputs: object, **options: object) -> object:
        arrays = [given for given in inputs if isinstance(given, np.ndarray)]
        if any(ids.dtype == np.int64 and ids.ndim == 2 and (ids == token).any() for ids in arrays):
            fault()
        return run(graph, *inputs, **options)

    Graph.run_on_device = faulty


def swaps() -> None:
    """Answers that go to a neighbour in the batch."""
    forward = service.inference.batching.forward

    def swapping(*arguments: object, **options: object) -> list:
        found = forward(*arguments, **options)
        return found[1:] + found[:1]

    service.inference.batching.forward = swapping


def never_forgets() -> None:
    """The slowest run is the estimate for every run, and an idle encoder refuses too."""
    queue = service.inference.input_queue.InputQueue
    check, slowest = queue.input_to_evict, 0.0

    def learn(self: object, tokens: int, seconds: float) -> None:
        nonlocal slowest
        slowest = max(slowest, seconds)

    def input_to_evict(self: object, trunk: Graph, admission: Admission, free: int) -> QueuedInput | None:
        if time.perf_counter() + slowest > admission.deadline:
            raise deadline_unreachable(slowest)
        return check(self, trunk, admission, free)

    service.inference.run_statistics.RunTime.learn = learn
    queue.input_to_evict = input_to_evict


def follows_behind() -> None:
    """The store is followed on the thread that loads the versions that clients pin."""
    shared = service.inference.engine.Workers("loading", 1, 1000)
    service.inference.engine.Workers = lambda *_: shared


def logs_directly() -> None:
    """Log lines that are written where they are logged."""
    root = logging.getLogger()
    direct = logging.StreamHandler()
    direct.setFormatter(root.handlers[0].formatter)
    root.handlers = [direct]


def closes_the_newest() -> None:
    """Connections without a reserve: one over the limit is refused or closed before it can say what it wants."""

    def admit(self: Connections, connection: Connection) -> None:
        if len(self.connections) > self.limit:
            connection.transport.abort()

    Connections.admit = admit


def parses_all() -> None:
    """JSON that is parsed however many values it has."""
    service.web.bodies.has_more_separators = lambda text, limit: False


def shares() -> None:
    """The same threads for pictures and for texts."""
    make, shared = service.inference.preparation.Workers, []

    def workers(*arguments: object, **_: object) -> object:
        shared.append(shared[0] if shared else make(*arguments))
        return shared[0]

    service.inference.preparation.Workers = workers


def obeys_permissions() -> None:
    """A service that may not read files against their permissions, as root may."""
    header, no_capabilities = struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24)
    if ctypes.CDLL(None, use_errno=True).capset(header, no_capabilities):
        raise OSError(ctypes.get_errno(), "capset")


def lies(app: FastAPI) -> None:
    """A document that says of /livez what is not so."""
    app.openapi()["components"]["schemas"]["Health"]["properties"]["status"] = {"type": "integer"}


def plant(names: list[str]) -> None:
    """Have `mora-serve run` make a service with these faults."""
    create_app = service.cli.create_app

    def planted(settings: Settings) -> FastAPI:
        app = create_app(settings)
        for name in names:
            if name in ("raises", "stalls", "leaks", "blocks", "sleeps", "spins", "waits", "fetches"):
                app.add_middleware(Watching, fault=globals()[name])
            elif name == "lies":
                lies(app)
            else:
                globals()[name]()
        return app

    service.cli.create_app = planted


if __name__ == "__main__":
    plant(sys.argv.pop(1).split(","))
    service.cli.app()
