"""Servers as separate processes on loopback, started in the usual way."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.load import TIMEOUT_SECONDS, MeasurementError
from benchmarks.sessions import stop_session
from model_store import Precision

_START_SECONDS = 180
_STOP_SECONDS = 30


@dataclass(frozen=True)
class Program:
    """How to start a server, how to check that it is ready, and where to send an item."""

    name: str
    arguments: tuple[str, ...]  # for the Python interpreter; `--port` is added
    ready_path: str
    path: str
    is_exact: bool = True  # computes in fp32


@dataclass(frozen=True)
class Server:
    """A running server."""

    base: str
    url: str  # for requests with an item
    pid: int
    start_seconds: float  # from its start until it was ready

    def resident_bytes(self) -> int:
        """Memory of the server's own process."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return 1024 * int(line.split()[1])


def authors(models: Path) -> Program:
    """PyTorch behind FastAPI (benchmarks/authors.py)."""
    return Program("authors", ("-m", "benchmarks.authors", "--models", str(models)), "/health", "/classify")


def litserve(models: Path, workers: int) -> Program:
    """LitServe with the single-file ONNX model (benchmarks/lit.py)."""
    arguments = ("-m", "benchmarks.lit", "--models", str(models), "--workers", str(workers))
    return Program(f"litserve, {workers} worker{'s' if workers > 1 else ''}", arguments, "/health", "/predict")


def torch_litserve(models: Path, dtype: str, workers: int) -> Program:
    """LitServe with PyTorch, which runs the present towers only, in batches (benchmarks/torch_lit.py)."""
    arguments = ("-m", "benchmarks.torch_lit", "--models", str(models), "--dtype", dtype, "--workers", str(workers))
    name = f"PyTorch {dtype} behind LitServe, {workers} worker{'s' if workers > 1 else ''}"
    return Program(name, arguments, "/health", "/predict", is_exact=dtype == "float32")


def ours(store: Path, precision: str, runtime: str = "auto", *flags: str) -> Program:
    """`mora-serve run` with its defaults but for precision, runtime and flags."""
    arguments = (
        "-m",
        "service.cli",
        "run",
        "--store",
        str(store),
        "--precision",
        precision,
        "--runtime",
        runtime,
        *flags,
    )
    return Program(f"ours {precision}", arguments, "/readyz", "/classify", is_exact=precision == Precision.FP32)


@contextmanager
def serving(program: Program) -> Iterator[Server]:
    """A running server. Raises MeasurementError if it does not become ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, started = [sys.executable, *program.arguments, "--port", str(port)], time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        # A separate session, so that the worker processes of a server are stopped with it.
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_until_ready(program, process, port, log)
            base = f"http://127.0.0.1:{port}"
            yield Server(base, base + program.path, process.pid, time.monotonic() - started)
        finally:
            stop_session(process, signal.SIGTERM, _STOP_SECONDS)


def post(url: str, body: bytes) -> Any:  # noqa: ANN401
    """The decoded answer to one request. Raises MeasurementError."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            return json.load(response)
    except (OSError, ValueError) as error:
        raise MeasurementError(f"{url} did not answer a single request: {error}") from error


def scores(url: str, bodies: Sequence[bytes]) -> list[dict[str, float]]:
    """The answer to each body: label to score."""
    return [{entry["label"]: entry["score"] for entry in post(url, body)["labels"]} for body in bodies]


def _wait_until_ready(program: Program, process: subprocess.Popen[bytes], port: int, log: IO[str]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", program.ready_path)
            if connection.getresponse().status == 200:
                return
        connection.close()
        time.sleep(0.02)
    log.seek(0)
    raise MeasurementError(f"{program.name} did not become ready; its log ends with\n{log.read()[-2000:]}")
