"""Real places to push to, on loopback: Debian's docker-registry, and an S3 server with a bucket."""

from __future__ import annotations

import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.faults.proxy import free_ports
from tests.support.waiting import wait_until

_S3 = Path(__file__).parents[3] / "build/clients/s3/bin/moto_server"
S3_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "AKIA-of-a-test",
    "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
    "AWS_REGION": "eu-west-1",
}
CONFIGURATION = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"{http}}}
{more}
"""


@contextmanager
def running_registry(folder: Path, more: str = "", http: str = "") -> Iterator[str]:
    """HOST:PORT of an empty registry, with more lines of its configuration, and more of the part `http`."""
    program = shutil.which("docker-registry") or shutil.which("/usr/bin/docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed (make setup-registry)")
    (port,) = free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "registry.yml").write_text(CONFIGURATION.format(folder=folder, port=port, more=more, http=http))
    with (folder / "log").open("wb") as log, _stopped([program, "serve", str(folder / "registry.yml")], log):
        assert wait_until(lambda: _takes_connections(port)), (folder / "log").read_text()
        yield f"127.0.0.1:{port}"


@contextmanager
def running_s3(folder: Path) -> Iterator[str]:
    """The address of an S3 server with the bucket `models`."""
    if not _S3.is_file():
        pytest.skip(f"NOT TESTED: {_S3} does not exist (make build/clients/s3)")
    (port,) = free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log, _stopped([str(_S3), "-H", "127.0.0.1", "-p", str(port)], log):
        assert wait_until(lambda: _takes_connections(port)), (folder / "log").read_text()
        address = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(urllib.request.Request(f"{address}/models", method="PUT"), timeout=60):
            yield address


@contextmanager
def _stopped(command: list[str], log: object) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _takes_connections(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
