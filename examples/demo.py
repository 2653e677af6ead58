"""Serve the shipped store, classify held-out drawings by image, by text and by both over HTTP, and stop the service."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rich.console import Console

HELD_OUT = Path(__file__).parent / "openclipart" / "held_out"
START_SECONDS = 120
# Counters that show the computed work; the rest of /metrics is for Prometheus.
SHOWN = re.compile(r"mora_(requests|predictions|rejected)_total|mora_(batch_size|stage_duration_seconds)_count")
console = Console(soft_wrap=True)


class DemoError(Exception):
    """The demo failed; the message says why."""


def main() -> int:
    """Run the demo. The exit status is 0 if every request was answered."""
    try:
        items = read_items()
        with service() as url:
            before = metrics(url)
            for item in items:
                classify_three_ways(url, item)
            print_moved(before, metrics(url))
    except DemoError as error:
        Console(stderr=True).print(f"demo failed: {error}", style="red", markup=False)
        return 1
    console.print("\nThe service is stopped. `make serve` keeps it running: open / and /docs in a browser.")
    return 0


def read_items() -> list[dict[str, str]]:
    """The drawings in the repository that were not used in training."""
    path = HELD_OUT / "items.json"
    if not path.is_file():
        raise DemoError(f"{path} is missing; restore it from the repository")
    items: list[dict[str, str]] = json.loads(path.read_text())
    return items


@contextmanager
def service(*flags: str) -> Iterator[str]:
    """Run `mora-serve run` with flags on a free port, yield its base URL, and stop it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "service.cli", "run", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--drain-delay-seconds", "0"]  # no proxy has to notice the shutdown
    command += flags
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until_ready(url, process, log)
            console.print(f"[bold]mora-serve[/bold] answers on {url}")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: IO[str]) -> None:
    """Return once /readyz answers 200."""
    last_answer = "nothing"
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except urllib.error.HTTPError as error:
            with error:
                last_answer = json.load(error)["detail"]
            break  # the service runs but is not ready; waiting longer does not help
        except OSError:
            pass
        time.sleep(0.1)
    log.seek(0)
    ending = log.read()[-2000:]
    raise DemoError(f"the service did not become ready (answer: {last_answer}); its log ends with\n{ending}")


def classify_three_ways(url: str, item: dict[str, str]) -> None:
    """Send a drawing by image, by text and by both; print each answer with its stage times."""
    picture = (HELD_OUT / item["image"]).read_bytes()
    task = item["task"]
    ways = {
        "image only": form_request(url, {"task": task, "top_k": "3"}, picture),
        "text only": json_request(url, {"task": task, "top_k": 3, "text": item["text"]}),
        "both": form_request(url, {"task": task, "top_k": "3", "text": item["text"]}, picture),
    }
    console.print(f"\n[bold]{item['image']}[/], titled [bold]{item['text']}[/]; true label: [bold]{item['label']}[/]")
    for way, request in ways.items():
        answer = send(request)
        labels = ", ".join(f"{mark(label)} {label['score']:.3f}" for label in answer["labels"])
        used = ", ".join(f"{modality} {state}" for modality, state in answer["modalities"].items())
        stages = ", ".join(f"{stage} {milliseconds:.1f}" for stage, milliseconds in answer["latency_ms"].items())
        console.print(f"  {way:<10}  {labels}\n{'':14}[dim]{used}; milliseconds: {stages}[/]", highlight=False)


def mark(label: dict[str, Any]) -> str:
    """The label, in bold when it is part of the answer."""
    return f"[bold green]{label['label']}[/]" if label["selected"] else str(label["label"])


def json_request(url: str, fields: dict[str, object]) -> urllib.request.Request:
    """POST /classify with a JSON body."""
    return urllib.request.Request(f"{url}/classify", json.dumps(fields).encode(), {"Content-Type": "application/json"})


def form_request(url: str, fields: dict[str, str], picture: bytes) -> urllib.request.Request:
    """POST /classify with a form, as `curl -F image=@apple.png` sends it."""
    boundary = uuid.uuid4().hex
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts.append(b'name="image"; filename="drawing.png"\r\nContent-Type: image/png\r\n\r\n' + picture)
    start = f"--{boundary}\r\nContent-Disposition: form-data; ".encode()
    body = b"".join(start + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
    content_type = f"multipart/form-data; boundary={boundary}"
    return urllib.request.Request(f"{url}/classify", body, {"Content-Type": content_type})


def send(request: urllib.request.Request) -> dict[str, Any]:
    """The answer, or DemoError with the problem's detail."""
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        with error:
            raise DemoError(f"a request was refused: {json.load(error)['detail']}") from error
    except OSError as error:
        raise DemoError(f"the service does not answer ({error})") from error


def metrics(url: str) -> dict[str, float]:
    """Every series of /metrics."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
    except OSError as error:
        raise DemoError(f"the service does not return metrics ({error})") from error
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def print_moved(before: dict[str, float], after: dict[str, float]) -> None:
    """Print the increase of each counter: the image encoder runs for six of nine requests, those with an image."""
    console.print("\n[bold]Metrics that changed[/]")
    for name, value in after.items():
        change = value - before.get(name, 0)
        if change and SHOWN.match(name):
            console.print(f"  {name}  +{change:g}", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
