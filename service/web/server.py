"""The server process: where it listens, and how it stops without losing a request."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from model_store.messages import describe_os_error
from service.inference.engine import Engine
from service.settings import Settings
from service.web.connections import Connection, Connections
from service.web.metrics_port import metrics_app

_log = structlog.get_logger()
_FAILURE = 1
_TICKS_PER_SECOND = 10  # uvicorn's
_CLOSING_SECONDS = 1  # of the drain, kept for ending what was cut off


class Server(uvicorn.Server):
    """Answers with `service`; says where it listens once it does.

    Told to stop it is not ready any more, but answers for `drain_delay_seconds`, in which whoever sends requests can
    notice; a second signal, or Ctrl-C, skips that, and one more Ctrl-C waits for nothing. Then it listens no more,
    finishes what it has begun, and has ended `drain_seconds` after the signal whatever happens. While models load there
    is nothing to finish.
    """

    def __init__(self, service: FastAPI, settings: Settings) -> None:
        super().__init__(_config(service, settings.host, settings.port))
        self._service = service
        self._settings = settings
        self.server_state = self._connections = Connections(settings, service.state.metrics)
        self._told_to_stop: float | None = None
        self._delay_seconds = 0.0
        self._has_noticed = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._check_address()
        await super().startup(sockets)
        urls = {"url": _url(self.servers[0])}
        if self._settings.metrics_port is not None:
            urls["metrics_url"] = _url(await self._open_metrics_port(self._settings.metrics_port))
        tasks = {task: model.manifest.version for task, model in sorted(self._engine.catalog.live.items())}
        if not tasks:
            cure = "publish one there (mora-train publish), activate one (mora-store activate), or set MORA_STORE"
            _log.warning("nothing_to_serve", problem=f"no task of {self._settings.store} can be served; {cure}")
        _log.info("listening", **urls, tasks=tasks, max_connections=self._connections.limit)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.started:
            os._exit(0)  # nobody is connected, and what reads a model cannot be interrupted
        if self._told_to_stop is None:
            self._told_to_stop = time.monotonic()
            self._engine.drain()
            self._connections.drain()
            self._delay_seconds = 0.0 if sig == signal.SIGINT else self._settings.drain_delay_seconds
        else:
            self._delay_seconds = 0.0
            self.force_exit = self.should_exit and sig == signal.SIGINT

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_SECOND == 0:
            self._connections.close_slow()
        if self._told_to_stop is not None:
            if not self._has_noticed:  # a signal's handler can do neither of these safely
                self._has_noticed = True
                _log.info("draining", connections=len(self._connections.connections))
                self._end_in_time()
            if time.monotonic() - self._told_to_stop >= self._delay_seconds:
                self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.timeout_graceful_shutdown = max(0, int(self._seconds_left()) - _CLOSING_SECONDS)
        await super().shutdown(sockets)

    @property
    def _engine(self) -> Engine:
        engine: Engine = self._service.state.engine
        return engine

    def _seconds_left(self) -> float:
        told = time.monotonic() if self._told_to_stop is None else self._told_to_stop
        return told + self._settings.drain_seconds - time.monotonic()

    def _end_in_time(self) -> None:
        """End the process though a thread of it, reading a model perhaps, will not."""
        timer = threading.Timer(self._seconds_left(), os._exit, (0,))
        timer.daemon = True
        timer.start()

    async def _check_address(self) -> None:
        """Before models load: whether their answers will have a place to come from."""
        host, port = self._settings.host, self._settings.port
        try:
            loop = asyncio.get_running_loop()
            (await loop.create_server(asyncio.Protocol, host, port, start_serving=False)).close()
        except OSError as error:
            _log.error("port_unusable", problem=_unusable(host, port, error))
            sys.exit(_FAILURE)

    async def _open_metrics_port(self, port: int) -> asyncio.Server:
        config = _config(metrics_app(self._service.state.metrics), self._settings.host, port)
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(lambda: Connection(config, self._connections, {}), config.host, port)
        except OSError as error:
            _log.error("metrics_port_unusable", problem=_unusable(config.host, port, error))
            await self.lifespan.shutdown()
            sys.exit(_FAILURE)
        self.servers.append(server)
        return server


def _config(app: ASGIApp, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app, host=host, port=port, http=Connection, ws="none", log_config=None, log_level="warning", access_log=False
    )


def _unusable(host: str, port: int, error: OSError) -> str:
    where = f"cannot listen on {host}, port {port}: "
    if isinstance(error, PermissionError):
        return f"{where}{error.strerror}; choose a port from 1024 up"
    if isinstance(error, socket.gaierror):
        return f"{where}{error.strerror}; name an address of this machine with MORA_HOST"
    return where + describe_os_error(error)


def _url(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"http://{host}:{port}"
