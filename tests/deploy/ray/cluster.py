"""A Ray cluster on loopback, each node with processes of its own that can be killed together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
HEAD, WORKER = "127.0.0.2", "127.0.0.3"  # Ray takes 127.0.0.1 for the address that others reach it by
_START_SECONDS = 180


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Cluster:
    """A head node and a worker node with one CPU each; `proxies` are the addresses of their HTTP proxies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"{HEAD}:{free_port()}"
        self._ports = [free_port(), free_port()]
        self.proxies = [f"http://127.0.0.1:{port}" for port in self._ports]
        token = folder / "token"
        token.write_text(2 * uuid.uuid4().hex)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("MORA_")} | {
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_COLOR_PREFIX": "0",
            "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(self._ports[1]),  # all nodes are one machine here
        }
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._other: list[subprocess.Popen[str]] = []
        self._watches: list[Watch] = []

    def start_head(self) -> None:
        """The node that has the cluster's state and Serve's controller."""
        port = self.address.rsplit(":", 1)[1]
        temporary = self.folder / "r"  # socket paths are at most 107 bytes long
        options = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={temporary}"]
        self._start_node(HEAD, [*options, f"--ray-client-server-port={free_port()}"], {})
        listening = ["--http-host=127.0.0.1", f"--http-port={self._ports[0]}"]
        done = self._run("serve", "start", f"--address={self.address}", *listening)
        assert done.returncode == 0, done.stdout

    def start_worker(self, **environment: str) -> None:
        """A second node, with `environment` of its own."""
        self._start_node(WORKER, [f"--address={self.address}"], environment)

    def deploy(self, store: Path, /, **arguments: object) -> subprocess.CompletedProcess[str]:
        """`serve run` with the store in its environment, where a node's own wins; returns when all replicas run."""
        given = [f"{name}={value}" for name, value in arguments.items()]
        command = ["run", f"--address={self.address}", "--non-blocking", "service.ray_app:app", *given]
        return self._run("serve", *command, MORA_STORE=str(store))

    def kill_worker(self) -> int:
        """SIGKILL to every process of the second node at once; how many there were."""
        return self._kill(WORKER)

    def processes(self) -> list[psutil.Process]:
        """Every process of both nodes."""
        return [process for node in self._nodes.values() for process in _session(node.pid)]

    def watch(self) -> Watch:
        """Follow what Serve's controller says of the application."""
        command = [sys.executable, "-m", "tests.deploy.ray.watching", self.address]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=self._environment)
        self._other.append(process)
        assert process.stdout is not None
        self._watches.append(Watch(process.stdout))
        return self._watches[-1]

    def stop(self) -> None:
        """Kill all that is left."""
        for process in self._other:
            process.kill()
            process.wait()
        for watch in self._watches:
            watch.close()
        for ip in list(self._nodes):
            self._kill(ip)

    def _start_node(self, ip: str, options: list[str], environment: dict[str, str], tries: int = 4) -> None:
        command = [BIN / "ray", "start", "--block", "--disable-usage-stats", f"--node-ip-address={ip}", "--num-cpus=1"]
        ports = [f"--dashboard-agent-listen-port={free_port()}", f"--object-store-memory={80 * 1024 * 1024}"]
        path = self.folder / f"{ip}.log"
        with path.open("w") as log:
            self._nodes[ip] = subprocess.Popen(
                [*command, *ports, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self._environment | environment,
                start_new_session=True,
            )
        node = self._nodes[ip]
        wait_until(lambda: "Ray runtime started" in path.read_text() or node.poll() is not None, _START_SECONDS)
        if node.poll() is not None and tries > 1:  # Ray gives a node 15 seconds to start, too few on a busy machine
            self._kill(ip)
            self._start_node(ip, options, environment, tries - 1)
            return
        assert "Ray runtime started" in path.read_text(), path.read_text()

    def _kill(self, ip: str) -> int:
        node = self._nodes.pop(ip)
        victims = _session(node.pid)
        for victim in victims:
            victim.send_signal(signal.SIGKILL)
        node.wait()
        psutil.wait_procs(victims, 10)
        return len(victims)

    def _run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / command[0], *command[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=ROOT,
            env=self._environment | environment,
            timeout=_START_SECONDS,
        )


class Watch:
    """States of the application as Serve's controller gave them, oldest first, each with `time.monotonic()`."""

    def __init__(self, lines: IO[str]) -> None:
        self.seen: list[dict] = []
        self._lines = lines
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        self.seen.extend(json.loads(line) for line in self._lines if line.startswith("{"))  # Ray prints as well

    def close(self) -> None:
        """To be called when no more lines can come."""
        self._reader.join()
        self._lines.close()

    def wait(self, is_so: Callable[[dict], bool], since: float, seconds: float = 240) -> dict:
        """The first state since that moment for which it is so."""
        found: list[dict] = []

        def look() -> bool:
            found.extend(state for state in self.seen if state["time"] >= since and is_so(state))
            return bool(found)

        assert wait_until(look, seconds), self.seen[-3:]
        return found[0]


def _session(leader: int) -> list[psutil.Process]:
    """The processes of a node, also those that are not its first process's children any more."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def now() -> float:
    """The clock of Watch."""
    return time.monotonic()
