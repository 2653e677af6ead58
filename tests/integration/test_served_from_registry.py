"""`mora-serve run --store oci://...`: a service without a store of its own, and a registry that goes away."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from model_store import Store
from model_store.transfer import TransferCount, open_remote, push
from tests.support.tiny import Shelf
from tests.support.transfer.places import running_registry
from tests.support.waiting import eventually


@contextmanager
def served(folder: Path, store: str) -> Iterator[str]:
    """The address of a service that pulls its store into `folder`."""
    command = [sys.executable, "-m", "service.cli", "run", "--port", "0", "--store", store, "--plain-http", "true"]
    command += ["--store-cache", str(folder / "cache"), "--log-format", "json", "--drain-delay-seconds", "0"]
    log = folder / "log"
    with log.open("wb") as file, subprocess.Popen(command, stderr=file) as process:
        try:
            eventually(lambda: process.poll() is not None or '"listening"' in log.read_text(), seconds=60)
            yield re.search(r'"url": ?"([^"]+)"', log.read_text())[1]
        finally:
            process.terminate()
            assert process.wait(timeout=30) == 0, log.read_text()


def pushed(store: Store, task: str, target: str) -> None:
    with closing(open_remote(target, plain_http=True)) as remote:
        push(store, task, None, remote, TransferCount())


def answered(url: str, task: str) -> dict:
    body = json.dumps({"task": task, "text": "a red apple"}).encode()
    with urlopen(Request(f"{url}/classify", body, {"Content-Type": "application/json"}), timeout=30) as response:
        return json.load(response)


@pytest.fixture
def shelf(tmp_path) -> Shelf:
    return Shelf(Store(tmp_path / "published"))


@pytest.mark.slow
def test_a_service_serves_what_tags_of_a_registry_point_to(shelf, tmp_path):
    shelf.publish("fruit")
    shelf.publish("tags")
    with running_registry(tmp_path / "registry") as host:
        targets = {task: f"oci://{host}/models:{task}" for task in ("fruit", "tags")}
        for task, target in targets.items():
            pushed(shelf.store, task, target)
        store = ",".join(targets.values())
        with served(tmp_path, store) as url:
            answers = [answered(url, task) for task in targets]
            assert [(answer["task"], answer["version"]) for answer in answers] == [("fruit", 1), ("tags", 1)]

        shelf.publish("fruit", seed=2)
        pushed(shelf.store, "fruit", targets["fruit"])
        with served(tmp_path, store) as url:
            assert answered(url, "fruit")["version"] == 2

    with served(tmp_path, store) as url:  # the registry is gone
        assert answered(url, "fruit")["version"] == 2
        assert "store_not_pulled" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_a_service_without_any_version_ends_with_one_line_that_names_the_target(tmp_path):
    with running_registry(tmp_path / "registry") as host:
        target = f"oci://{host}/models:none"
        command = [sys.executable, "-m", "service", "run", "--port", "0", "--store", target, "--plain-http", "true"]
        command += ["--store-cache", str(tmp_path / "cache"), "--log-format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert f"{target} points to no version" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
