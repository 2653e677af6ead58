"""What the fault tests share: how often to try, where figures go, and a real service process to attack.

`make test` runs the tests here with quick counts. `make faults` (`pytest tests/faults --full-faults`) runs them with
full counts, adds those that tests/conftest.py leaves out, and writes the table of docs/reliability.md.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from model_store import Store
from tests.support.faults.asking import scrape
from tests.support.faults.attacking import Target
from tests.support.faults.report import ROWS, Row, write_report
from tests.support.tiny import Shelf

_START_SECONDS = 60
_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def counts(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`counts(quick, full)`: how often to try."""
    full = request.config.getoption("--full-faults")
    return lambda quick, thorough: thorough if full else quick


@pytest.fixture
def reliability(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`reliability(what, goal, measured, reached=True)`: one row of docs/reliability.md; fails where not reached."""
    started = time.monotonic()

    def note(what: str, goal: str, measured: str, reached: bool = True) -> None:
        test = f"{request.path.name}::{request.node.name}"
        row = Row(what, goal, measured, reached, time.monotonic() - started, test)
        ROWS.append(row)
        if request.config.getoption("--full-faults"):  # at once: a run of hours may be stopped
            write_report(_ROOT / "docs" / "reliability.md", ROWS)
        row.check()

    return note


@dataclass
class Running:
    """`mora-serve run` as a process of its own."""

    process: subprocess.Popen[str]
    base: str
    events: list[dict] = field(default_factory=list)  # its log so far

    @property
    def port(self) -> int:
        return int(self.base.rsplit(":", 1)[1])

    @property
    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))

    @property
    def peak_bytes(self) -> int:
        """The most that was resident so far, or since /proc/PID/clear_refs was written to."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))

    @property
    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def metric(self, series: str) -> float:
        """The value of one series as /metrics prints it, 0 when it is not there."""
        return scrape(f"{self.base}/metrics").get(series, 0.0)


@contextmanager
def _running(
    store: Path,
    settings: dict[str, object],
    planted: str = "",
    open_files: int | None = None,
    *,
    reads_log: bool = True,
) -> Iterator[Running]:
    module = ["tests.support.faults.planted", planted] if planted else ["service.cli"]
    command = [sys.executable, "-m", *module, "run", "--store", str(store), "--log-format", "json"]
    is_quiet = not reads_log or settings.get("log_level") in ("warning", "error")
    port = _free_port() if is_quiet else 0
    defaults = {"port": port, "poll_seconds": 0.05, "intra_op_threads": 1, "allowed_hosts": "*"}
    for name, value in {**defaults, **settings}.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    if open_files is not None:
        command = ["sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh", *command]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=_ROOT)
    killer = threading.Timer(_START_SECONDS, process.kill)
    killer.start()
    running, reader = Running(process, ""), None
    try:
        running.base = _base_once_it_takes_connections(process, port) if is_quiet else _base_it_says(running)
        killer.cancel()
        if reads_log:
            reader = threading.Thread(
                target=lambda: running.events.extend(map(json.loads, process.stderr)), daemon=True
            )
            reader.start()
        yield running
    finally:
        killer.cancel()
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        if reader is not None:
            reader.join(10)
        process.stderr.close()


def _base_it_says(running: Running) -> str:
    for line in running.process.stderr:
        running.events.append(json.loads(line))
        if running.events[-1]["event"] == "listening":
            return running.events[-1]["url"]
    raise AssertionError(f"the service did not start: {running.events}")


def _base_once_it_takes_connections(process: subprocess.Popen[str], port: int) -> str:
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return f"http://127.0.0.1:{port}"
        time.sleep(0.05)
    raise AssertionError(f"the service did not start: {process.stderr.read()}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def server() -> Iterator[Callable[..., Running]]:
    """`server(store, planted="", open_files=None, **settings)`: a running service, killed at the end of the test.

    `planted` names faults of planted.py. `open_files` is the number of files that it may open. With `reads_log=False`
    nobody reads its standard error.
    """
    with ExitStack() as stack:

        def start(
            store: Store,
            planted: str = "",
            open_files: int | None = None,
            *,
            reads_log: bool = True,
            **settings: object,
        ) -> Running:
            return stack.enter_context(_running(store.root, settings, planted, open_files, reads_log=reads_log))

        yield start


@pytest.fixture(scope="module")
def module_server() -> Iterator[Callable[..., Running]]:
    """`server` for fixtures that the tests of a module share."""
    with ExitStack() as stack:
        yield lambda store, planted="", **settings: stack.enter_context(_running(store.root, settings, planted))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A service with the tasks `fruit` and `tags` that the tests of a module attack together."""
    shelf = Shelf(Store(tmp_path_factory.mktemp("target") / "store"))
    shelf.publish("fruit")
    shelf.publish("tags")
    with _running(shelf.store.root, {"max_body_bytes": 2_000_000}) as running:
        target = Target(running)
        yield target
        target.close()


@pytest.fixture
def attack() -> Iterator[Callable[[Running], Target]]:
    """`attack(server(store))`: a service of the test's own to attack."""
    with ExitStack() as stack:

        def begin(running: Running) -> Target:
            target = Target(running)
            stack.callback(target.close)
            return target

        yield begin
