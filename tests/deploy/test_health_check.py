"""The health check of the image asks the address on which the service listens."""

from __future__ import annotations

import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DOCKERFILE = (Path(__file__).parents[2] / "docker" / "service.Dockerfile").read_text(encoding="utf-8")


def health_check() -> list[str]:
    command = re.search(r"^HEALTHCHECK .*? CMD (\[.*?\])$", DOCKERFILE.replace("\\\n", ""), flags=re.MULTILINE)
    return [sys.executable, *json.loads(command[1])[1:]]


@contextmanager
def ready(host: str) -> Iterator[int]:
    """A server whose /readyz alone answers 200; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.HTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with Server((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "127.0.0.2", "::1", "::", ""])  # noqa: S104
@pytest.mark.slow
def test_the_health_check_asks_the_address_of_the_setting(host):
    try:
        with ready(host or "127.0.0.1") as port:
            environment = {**os.environ, "MORA_HOST": host, "MORA_PORT": str(port)}
            done = subprocess.run(health_check(), env=environment, capture_output=True, check=False, timeout=30)
    except OSError:
        pytest.skip("this machine has no such address")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_a_service_that_does_not_answer_is_unhealthy(host):
    with socket.create_server((host, 0)) as silent:
        port = silent.getsockname()[1]
    environment = {**os.environ, "MORA_HOST": host, "MORA_PORT": str(port)}
    done = subprocess.run(health_check(), env=environment, capture_output=True, check=False, timeout=30)
    assert done.returncode != 0
