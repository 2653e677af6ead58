"""The server process: its ports, and a stop that loses no request."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
import uuid
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from model_store.messages import describe_os_error
from service.errors import Code, ServiceError
from service.inference.engine import Engine
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.web.connections import (
    BACKLOG,
    KEPT_SECONDS,
    METRICS_CONNECTIONS,
    Connection,
    Connections,
    metrics_connection_limits,
    raise_file_limit,
)
from service.web.exit_timer import ExitTimer
from service.web.hosts import AllowedHosts
from service.web.monitoring_paths import METRICS
from service.web.operator_signals import OperatorSignals
from service.web.problems import problem_response
from service.web.small_reads import SmallReads

_log = structlog.get_logger()
_TICKS_PER_SECOND = 10  # uvicorn's
_CLOSING_SECONDS = 1.0  # at the end of the drain, to answer the remaining requests with a problem


class Server(uvicorn.Server):
    """Serves `service` and logs its address.

    After SIGTERM it reports not ready but answers for `drain_delay_seconds`, so that load balancers can react. A second
    signal, or Ctrl-C, skips this delay; one more Ctrl-C ends the process at once. Then the server closes its ports and
    finishes the requests in flight. Those that are not answered shortly before `drain_seconds` after the signal get
    `503 draining`. At `drain_seconds` the process ends in any case. A signal during the loading of models ends it at
    once.
    """

    def __init__(self, service: FastAPI, settings: Settings, operator: OperatorSignals | None = None) -> None:
        super().__init__(_config(service, settings.host, settings.port))
        self._service = service
        self._settings = settings
        self._operator = operator
        files, needed = raise_file_limit(settings.max_connections + METRICS_CONNECTIONS)
        if files < needed:
            cure = f"raise it (`ulimit -n {needed}`, LimitNOFILE={needed}), or lower MORA_MAX_CONNECTIONS"
            _log.warning("few_open_files", problem=f"the limit of open files is {files}; {needed} are needed; {cure}")
        self.server_state = self._connections = Connections(settings, service.state.metrics)
        limits = metrics_connection_limits(self._connections.limit_with_spare)
        self._metrics_connections = Connections(settings, service.state.metrics, limits)
        self._metrics_connections.tasks = self._connections.tasks  # the server waits for both
        self._stop_requested: float | None = None
        self._delay_seconds = 0.0
        self._drain_has_begun = False
        self._exit_timer = ExitTimer()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._operator is not None:
            self._operator.loop = asyncio.get_running_loop()
        await self._check_address()
        await super().startup(sockets)
        urls = {"url": _url(self.servers[0])}
        if self._settings.metrics_port is not None:
            urls["metrics_url"] = _url(await self._open_metrics_port(self._settings.metrics_port))
        tasks = {task: model.manifest.version for task, model in sorted(self.engine.catalog.live.items())}
        if not tasks:
            _log.warning("nothing_to_serve", problem=self._why_nothing_is_served())
        _log.info("listening", **urls, tasks=tasks, max_connections=self._connections.limit)

    def _why_nothing_is_served(self) -> str:
        folder, refused = self._settings.store_folder, self.engine.catalog.refused()
        if refused:
            named = ", ".join(sorted(refused))
            return f"every live version of {folder} was refused ({named}): model_refused above has the reason of each"
        if not folder.is_dir():
            return f"{folder} does not exist; name another folder with --store or MORA_STORE, or publish a task there"
        cure = "publish one there (mora-train publish), activate one (mora-store activate), or name another folder"
        return f"no task of {folder} has a live version; {cure} with --store or MORA_STORE"

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.started:
            os._exit(0)  # no connection is open, and loading a model cannot be interrupted
        if self._stop_requested is None:
            self._stop_requested = time.monotonic()
            self._exit_timer.arm(self._settings.drain_seconds)  # first: the event loop may never go on
            self.engine.drain()
            self._connections.drain()
            self._metrics_connections.drain()
            self._delay_seconds = 0.0 if sig == signal.SIGINT else self._settings.drain_delay_seconds
        else:
            self._delay_seconds = 0.0
            self.force_exit = self.should_exit and sig == signal.SIGINT

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_SECOND == 0:
            self._close_slow()
        if self._operator is not None and self._operator.take_reading():
            _log.info("rereading")
            for rounds in self._service.state.rounds:
                rounds.ask()
        if self._stop_requested is not None:
            if not self._drain_has_begun:  # not in the signal handler, where logging is unsafe
                self._drain_has_begun = True
                _log.info("draining", connections=len(self._connections.connections))
            if time.monotonic() - self._stop_requested >= self._delay_seconds:
                self.should_exit = True
        ends = await super().on_tick(counter)
        self._metrics_connections.default_headers = self._connections.default_headers
        return ends

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's shutdown, but with an answer to each request that is cut."""
        self._stop_requested = self._stop_requested or time.monotonic()
        for server in self.servers:
            server.close()
        for connection in self._all_connections():
            connection.shutdown()
        closing_seconds = min(_CLOSING_SECONDS, self._settings.drain_seconds / 10)
        await self._wait_for_answers(closing_seconds)
        if not self.force_exit:
            cut = self._service.state.inflight.cut()
            cut += sum(connection.cut() for connection in self._all_connections())
            if cut:
                _log.warning("requests_cut", requests=cut)
                await self._wait_for_answers(closing_seconds / 2)
            await self.lifespan.shutdown()

    async def _wait_for_answers(self, until_seconds: float) -> None:
        """Wait until every connection is closed, at most until so many seconds before the end of the drain."""
        while self._all_connections() or self._connections.tasks:
            seconds = self._seconds_left() - until_seconds
            if self.force_exit or seconds <= 0:
                return
            await asyncio.sleep(min(1 / _TICKS_PER_SECOND, seconds))
            self._close_slow()

    def _close_slow(self) -> None:
        for connections in (self._connections, self._metrics_connections):
            connections.close_slow()

    def _all_connections(self) -> list[Connection]:
        return [*self._connections.connections, *self._metrics_connections.connections]

    @property
    def engine(self) -> Engine:
        """The engine of the service, which exists once the application has started."""
        engine: Engine = self._service.state.engine
        return engine

    def _seconds_left(self) -> float:
        requested = time.monotonic() if self._stop_requested is None else self._stop_requested
        return requested + self._settings.drain_seconds - time.monotonic()

    async def _check_address(self) -> None:
        """Exit with an error if the port cannot be used, before models are loaded."""
        host, port = self._settings.host, self._settings.port
        try:
            loop = asyncio.get_running_loop()
            (await loop.create_server(asyncio.Protocol, host, port, start_serving=False)).close()
        except OSError as error:
            _log.error("port_unusable", problem=_unusable(host, port, error))
            sys.exit(1)

    async def _open_metrics_port(self, port: int) -> asyncio.Server:
        app = _metrics_app(self._service.state.metrics, AllowedHosts(self._settings.allowed_hosts))
        config = _config(app, self._settings.host, port)
        connections = self._metrics_connections
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: SmallReads(config, connections, {}), config.host, port, backlog=connections.limit_with_spare
            )
        except OSError as error:
            _log.error("metrics_port_unusable", problem=_unusable(config.host, port, error))
            await self.lifespan.shutdown()
            sys.exit(1)
        self.servers.append(server)
        return server


def _config(app: ASGIApp, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=SmallReads,  # type: ignore[arg-type]  # uvicorn only calls it
        backlog=BACKLOG,
        timeout_keep_alive=KEPT_SECONDS,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
    )


def _metrics_app(metrics: Metrics, hosts: AllowedHosts) -> ASGIApp:
    """The application on the metrics port. It answers `/metrics` only and needs no API key."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            hosts.check(scope)
            if scope["path"] != METRICS:
                raise ServiceError(Code.NOT_FOUND, "This port has only /metrics.")
            if scope["method"] not in ("GET", "HEAD"):
                raise ServiceError(Code.METHOD_NOT_ALLOWED, "The Allow header names the methods of this path.")
        except ServiceError as error:
            headers = {"Allow": "GET, HEAD"} if error.code is Code.METHOD_NOT_ALLOWED else None
            response = problem_response(error, uuid.uuid4().hex, headers)
        else:
            response = Response(await metrics.scrape(), media_type=CONTENT_TYPE_LATEST)
        await response(scope, receive, send)

    return app


def _unusable(host: str, port: int, error: OSError) -> str:
    problem = f"cannot listen on {host}, port {port}: "
    if isinstance(error, PermissionError):
        return f"{problem}{error.strerror}; choose a port from 1024 up"
    if isinstance(error, socket.gaierror):
        return f"{problem}{error.strerror}; name an address of this machine with MORA_HOST"
    return problem + describe_os_error(error)


def _url(server: asyncio.Server) -> str:
    """The address in a URL (RFC 3986 and 6874): an IPv6 address in brackets, its zone after %25."""
    host, port = server.sockets[0].getsockname()[:2]
    return f"http://[{host.replace('%', '%25')}]:{port}" if ":" in host else f"http://{host}:{port}"
