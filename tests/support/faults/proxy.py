"""nginx in front of services."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

REUSED = 'proxy_http_version 1.1; proxy_set_header Connection "";'  # with it nginx keeps connections to services open
NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  log_format forwarded '$upstream_addr $status'; access_log {folder}/access.log forwarded;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream services {{ {servers} keepalive {keepalive}; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://services; proxy_connect_timeout 5s; {location} }}
  }}
}}
"""


def free_ports(number: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextmanager
def nginx(folder: Path, ports: list[int], location: str, keepalive: int = 16) -> Iterator[int]:
    """A round-robin proxy, with further directives for its location, in front of services on these ports; its port."""
    (port,) = free_ports(1)
    folder.mkdir()
    servers = " ".join(f"server 127.0.0.1:{service} max_fails=0;" for service in ports)
    text = NGINX.format(folder=folder, port=port, servers=servers, location=location, keepalive=keepalive)
    with running_nginx(folder, text):
        yield port


@contextmanager
def running_nginx(folder: Path, configuration: str) -> Iterator[None]:
    """nginx with a configuration that stays in the foreground and writes the file `pid` of the folder."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        pytest.skip("nginx is not installed (Debian: apt install nginx-light)")
    (folder / "nginx.conf").write_text(configuration)
    command = [program, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen([*command, "-g", "user root;"])  # only root may change it, and must: it owns the folder
    try:
        assert wait_until(lambda: (folder / "pid").exists())
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def forwarded(folder: Path) -> int:
    """How many requests it has sent on, each whole in its eyes."""
    return sum(not line.startswith("- ") for line in (folder / "access.log").read_text().splitlines())
