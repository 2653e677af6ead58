"""A real service of tiny tasks under a little load, scraped every second by Debian's `prometheus`."""

from __future__ import annotations

import base64
import itertools
import json
import math
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml

from model_store import Store
from tests.support.promql import ROOT, RULES
from tests.support.tiny import PICTURE, Shelf, encode_png, label_sets
from tests.support.waiting import wait_until

TASKS = ["fruit", "tags"]
_MEASURED = {"validation": {pattern: {"confidence": 0.6} for pattern in ("both", "image", "text")}}
_PATIENCE_SECONDS = 60.0  # for data that should come back; it takes a few


class Prometheus:
    """What is asked of it over HTTP."""

    def __init__(self, base: str) -> None:
        self._base = base

    def get(self, path: str, **parameters: str) -> dict:
        """The data of an answer of its API. Raises AssertionError, with what it said, where it refuses."""
        url = f"{self._base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {json.load(error)['error']}") from error

    def has_data(self, query: str) -> bool:
        """Whether there is a finite number among what comes back."""
        found = self.get("query", query=query)["result"]
        return any(math.isfinite(float(sample["value"][1])) for sample in found)

    def without_data(self, queries: list[str]) -> list[str]:
        """Those that have none, after time enough for it to be there."""
        missing = list(queries)

        def all_have() -> bool:
            missing[:] = [query for query in missing if not self.has_data(query)]
            return not missing

        wait_until(all_have, _PATIENCE_SECONDS)
        return missing


@contextmanager
def watched_service(folder: Path) -> Iterator[Prometheus]:
    """Both, in a folder of their own; every request was answered as it should be, or it fails at the end."""
    shelf = Shelf(Store(folder / "store"))
    for task in TASKS:
        shelf.publish_draft(shelf.draft(task).replacing(metrics=_MEASURED, label_sets=label_sets()))
    service, own = _free_port(), _free_port()
    serve = [sys.executable, "-m", "service.cli", "run", "--store", f"{folder}/store", "--port", f"{service}"]
    watch = ["prometheus", f"--config.file={_configuration(folder, service, own)}"]
    watch += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{own}"]
    stopped, surprises = threading.Event(), []

    def load() -> None:
        for expected, body in _requests():
            if stopped.wait(0.02):
                return
            status = _status_of(f"http://127.0.0.1:{service}/classify", body)
            if status not in expected:
                surprises.append((body["task"], expected, status))

    with (
        _process(serve, f"http://127.0.0.1:{service}/readyz", folder / "service.log"),
        _process(watch, f"http://127.0.0.1:{own}/-/ready", folder / "prometheus.log"),
    ):
        asking = threading.Thread(target=load)
        asking.start()
        try:
            yield Prometheus(f"http://127.0.0.1:{own}")
        finally:
            stopped.set()
            asking.join()
    assert surprises == []


def _requests() -> Iterator[tuple[set[int], dict]]:
    """Every task by every presence pattern, a refusal that is the client's fault and one that is not; for ever."""
    image, text = base64.b64encode(PICTURE).decode(), "a red apple"
    large = base64.b64encode(encode_png(np.zeros((2000, 2000, 3), np.uint8))).decode()  # over a millisecond to decode
    items = [{"image": image, "text": text}, {"image": image}, {"text": text}]
    cycle = [({200}, {"task": task, **item}) for task in TASKS for item in items]
    cycle += [({422}, {"task": TASKS[0]}), ({503, 504}, {"task": TASKS[0], "image": large, "timeout_ms": 1})]
    return itertools.cycle(cycle)


def _configuration(folder: Path, service: int, own: int) -> Path:
    """docker/prometheus's own, with addresses that are known, and looking every second."""
    config = yaml.safe_load((ROOT / "docker/prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    ports = {"mora": service, "prometheus": own}
    config["scrape_configs"] = [
        {"job_name": job["job_name"], "static_configs": [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]}
        for job in config["scrape_configs"]
    ]
    (folder / "rules").mkdir()
    for path in RULES:
        groups = yaml.safe_load(path.read_text())["groups"]
        for group in groups:
            group.pop("interval", None)
        (folder / "rules" / path.name).write_text(yaml.safe_dump({"groups": groups}))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    return folder / "prometheus.yml"


@contextmanager
def _process(command: list[str], ready: str, log: Path) -> Iterator[None]:
    """A process that answers 200 at `ready`; ended on the way out."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MORA_")}
    with log.open("w") as file:
        running = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT, env=environment)
    try:
        wait_until(lambda: running.poll() is not None or _status_of(ready) == 200)
        assert running.poll() is None, log.read_text()
        yield
    finally:
        running.kill()
        running.wait()


def _status_of(url: str, body: dict | None = None) -> int:
    """What a GET, or a POST of JSON, is answered with; 0 for nothing."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            response.read()
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
