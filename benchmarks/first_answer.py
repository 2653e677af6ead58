"""The time from an empty environment to the first answer: install the wheel, start the service, ask.

    python -m build --wheel && python -m benchmarks.first_answer dist/mora_serve-*.whl

The two commands of the README, as a newcomer gives them. The time includes what pip downloads; `--cached` gives pip its
cache, as on a machine that has installed the packages before.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from socket import socket
from typing import Annotated
from urllib.error import URLError
from urllib.request import Request, urlopen

import typer

from training.provenance import machine

_WAIT_SECONDS = 300.0


def main(
    wheel: Annotated[Path, typer.Argument(metavar="WHEEL", exists=True, help="What `python -m build --wheel` made.")],
    cached: Annotated[bool, typer.Option("--cached", help="Use pip's cache.")] = False,
    extra: Annotated[str, typer.Option(help="Extra of the wheel.")] = "cpu",
) -> None:
    """Install WHEEL into an empty environment, serve its tasks, and print the seconds until the first answer."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "environment"
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        cache = [] if cached else ["--no-cache-dir"]
        started = time.perf_counter()
        install = [f"{environment}/bin/pip", "install", "--quiet", "--disable-pip-version-check", *cache]
        subprocess.run([*install, f"{wheel.resolve()}[{extra}]"], check=True)
        installed = time.perf_counter()
        with closing(socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [f"{environment}/bin/mora-serve", "run", "--port", str(port), "--log-level", "warning"]
        with subprocess.Popen(command, cwd=folder) as service:
            try:
                answer = _first_answer(f"http://127.0.0.1:{port}", service)
                answered = time.perf_counter()
            finally:
                service.terminate()
    typer.echo(f"{machine()}; pip {'with' if cached else 'without'} its cache")
    typer.echo(f"install {installed - started:.1f} s, first answer {answered - installed:.1f} s after that: {answer}")
    typer.echo(f"together {answered - started:.1f} s")


def _first_answer(url: str, service: subprocess.Popen[bytes]) -> str:
    """The label of the first item that the service answers."""
    body = json.dumps({"task": "clipart-category", "text": "a red apple"}).encode()
    request = Request(f"{url}/classify", body, {"Content-Type": "application/json"})  # noqa: S310
    ends = time.perf_counter() + _WAIT_SECONDS
    while time.perf_counter() < ends and service.poll() is None:
        try:
            with urlopen(request, timeout=30) as response:  # noqa: S310
                label: str = json.load(response)["labels"][0]["label"]
                return label
        except (URLError, ConnectionError):
            time.sleep(0.05)
    raise typer.BadParameter("the service gave no answer; its log is above")


if __name__ == "__main__":
    typer.run(main)
