"""Stores that reach a container by reference: as an image of its own, and from a registry."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from contextlib import contextmanager

import pytest
import urllib3

from model_store import Store
from tests.deploy.docker.conftest import answers, run
from tests.support.faults.proxy import free_ports
from tests.support.tiny import PICTURE, Shelf
from tests.support.transfer.places import running_registry
from tests.support.waiting import wait_until

MOUNT = "/var/lib/mora/image"


@pytest.fixture
def published(shelf: Shelf) -> Store:
    shelf.publish("fruit")
    shelf.publish("tags")
    return shelf.store


def files_of(store: Store) -> dict[str, bytes]:
    """The content of each file of the store that a service reads, by path."""
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes()
        for part in ("blobs", "tasks")
        for path in (store.root / part).rglob("*")
        if path.is_file()
    }


@contextmanager
def container(*options: str):
    """The URL of a service in a container with the network of this machine."""
    (port,) = free_ports(1)
    settings = ["-e", f"MORA_PORT={port}", "-e", "MORA_HOST=127.0.0.1"]
    name = run("docker", "run", "--detach", "--network", "host", *settings, *options, "mora-serve").strip()
    try:
        url = f"http://127.0.0.1:{port}"
        ready = wait_until(lambda: answers(f"{url}/readyz"), 60)
        assert ready, subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=False).stderr
        yield url
    finally:
        run("docker", "rm", "--force", name)


def answer_of(url: str) -> dict:
    fields = {"task": "fruit", "image": ("x.png", PICTURE), "text": "a red apple"}
    answer = urllib3.request("POST", f"{url}/classify", fields=fields, timeout=30)
    assert answer.status == 200, answer.data
    return answer.json()


def test_an_image_of_a_store_holds_its_files_and_nothing_else(stack, published, tmp_path):
    tag = "mora-test-store"
    run("docker", "build", "-q", "-f", "docker/store.Dockerfile", "-t", tag, str(published.root))
    name = run("docker", "create", tag, "nothing").strip()
    try:
        packed = subprocess.run(["docker", "export", name], capture_output=True, timeout=60, check=True).stdout
    finally:
        run("docker", "rm", name)
        run("docker", "image", "rm", tag)

    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        names = {member.name.partition("/")[0] for member in archive}
        stored = [member for member in archive if member.name.partition("/")[0] in ("blobs", "tasks")]
        archive.extractall(tmp_path / "image", stored, filter="data")
    assert names - {".dockerenv", "dev", "etc", "proc", "sys"} == {"blobs", "tasks"}  # the engine adds the others
    assert files_of(Store(tmp_path / "image")) == files_of(published)

    for path in [tmp_path / "image", *(tmp_path / "image").rglob("*")]:
        path.chmod(0o755)  # as an image volume: read-only, of another owner
    with container("-v", f"{tmp_path / 'image'}:{MOUNT}:ro", "-e", f"MORA_STORE={MOUNT}", "--read-only") as url:
        assert answer_of(url)["version"] == 1


def test_a_container_serves_tasks_of_a_registry(stack, published, tmp_path):
    with running_registry(tmp_path / "registry") as host:
        targets = [f"oci://{host}/shop/models:{task}" for task in ("fruit", "tags")]
        for task, target in zip(("fruit", "tags"), targets, strict=True):
            push = [sys.executable, "-m", "model_store", "push", task, target, "--plain-http"]
            run(*push, "--store", str(published.root))
        with container("-e", f"MORA_STORE={','.join(targets)}", "-e", "MORA_PLAIN_HTTP=true") as url:
            assert answer_of(url)["version"] == 1
            served = urllib3.request("GET", f"{url}/tasks", timeout=30).json()
    assert [task["task"] for task in served["tasks"]] == ["fruit", "tags"]
