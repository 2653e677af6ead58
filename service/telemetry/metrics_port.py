"""A port for metrics beside an HTTP server that is not the service's own, as on Ray."""

from __future__ import annotations

import errno
import threading
import time

import structlog
from prometheus_client import start_http_server

from service.telemetry.metrics import Metrics

_log = structlog.get_logger()


def serve_metrics(metrics: Metrics, host: str, port: int, retry_seconds: float = 1.0) -> None:
    """Answer scrapes on a port from threads of its own.

    While another process uses the port, a thread waits for it: a new replica takes over the port of the replica that
    it replaces on its node. Raises OSError if the port cannot be used for any other reason.
    """
    if _is_open(metrics, host, port):
        return
    _log.warning("metrics_port_taken", port=port)

    def wait() -> None:
        while not _is_open(metrics, host, port):
            time.sleep(retry_seconds)

    threading.Thread(target=wait, name="mora-metrics-port", daemon=True).start()


def _is_open(metrics: Metrics, host: str, port: int) -> bool:
    try:
        start_http_server(port, host, metrics.registry)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True
