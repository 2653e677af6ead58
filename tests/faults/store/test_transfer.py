"""Pulls that are killed, that get flipped bits, and that meet a full disk; and the bytes that a second task moves."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from model_store import Store, StoreError, collect_garbage
from model_store.transfer import TransferCount, open_remote, pull, push
from tests.faults.store.test_store_loss import SmallDisk, small_disk
from tests.support.transfer.between import Answer, Between, Request, between
from tests.support.transfer.places import running_registry
from tests.support.transfer.versions import publish_sized

__all__ = ["small_disk"]  # a fixture

# Forks pulls of one version and kills each after a random time, until so many were killed before their end. After a
# pull that ended, the next one begins with an empty store. Prints for each pull its status, the bytes that wait for the
# next one, and what is live.
KILL_AT_RANDOM = """
import os, random, shutil, signal, sys, time
from pathlib import Path
from model_store import Store
from model_store.transfer import pull

target, root, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
moments = random.Random(0)
began = time.monotonic()
pull(target, root / "whole", plain_http=True)
seconds = time.monotonic() - began
store = Store(root / "store")
while kills > 0:
    child = os.fork()
    if child == 0:
        pull(target, store.root, plain_http=True, activate=True)
        os._exit(0)
    time.sleep(moments.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    kills -= status != 0
    incoming = store.root / ".incoming"
    waiting = sum(path.stat().st_size for path in incoming.iterdir()) if incoming.is_dir() else 0
    names = os.listdir(store.root / "tasks") if (store.root / "tasks").is_dir() else []
    live = store.live("fruit") if "fruit" in names else None
    if names and store.versions("fruit"):
        store.verify("fruit", 1)
    print(status, waiting, live, flush=True)
    if live == 1:
        shutil.rmtree(store.root)
"""


def push_to(target: str, store: Store, task: str) -> None:
    with closing(open_remote(target, plain_http=True)) as remote:
        push(store, task, None, remote, TransferCount())


@pytest.fixture
def source(tmp_path: Path) -> Store:
    """A store with the version 1 of fruit, of some megabytes."""
    store = Store(tmp_path / "source")
    publish_sized(store, "fruit", 2_000_000, 500_000)
    return store


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with running_registry(tmp_path / "registry") as host:
        yield host


@pytest.fixture
def proxy(registry: str) -> Iterator[Between]:
    with between(f"http://{registry}") as server:
        yield server


def wrong_files(root: Path) -> list[Path]:
    """What is visible in a store and is not what its name says."""
    blobs = list((root / "blobs/sha256").iterdir()) if (root / "blobs/sha256").is_dir() else []
    return [path for path in blobs if hashlib.sha256(path.read_bytes()).hexdigest() != path.name]


def test_pulls_killed_at_random(source, registry, tmp_path, counts, reliability):
    kills = counts(8, 200)
    target = f"oci://{registry}/models:fruit"
    push_to(target, source, "fruit")
    script = [sys.executable, "-c", KILL_AT_RANDOM, target, str(tmp_path), str(kills)]

    done = subprocess.run(script, capture_output=True, text=True, timeout=3000, check=False)

    assert done.returncode == 0, done.stderr
    pulls = [line.split() for line in done.stdout.splitlines()]
    killed = [int(waiting) for status, waiting, _ in pulls if status == "-9"]
    assert len(killed) == kills
    assert wrong_files(tmp_path / "store") == []
    manifest = pull(target, tmp_path / "store", plain_http=True, activate=True)
    assert Store(tmp_path / "store").verify("fruit") == manifest
    collect_garbage(Store(tmp_path / "store"))
    assert list((tmp_path / "store/.staging").iterdir()) == []
    reliability(
        "a pull is killed (SIGKILL) at a random moment; the next one resumes it",
        "nothing half-visible: no version, or one that verifies",
        f"{kills} kills, {sum(waiting > 0 for waiting in killed)} left bytes to resume, "
        f"{sum(live == '1' for _, _, live in pulls)} of {len(pulls)} pulls made the version live, which verified",
    )


class Flips:
    """Flips one bit of one answer of a registry, the same in each attempt."""

    def __init__(self, proxy: Between, kind: str) -> None:
        self.paths: dict[str, int] = {}  # lengths of answers
        self.kind = kind
        self.dice = random.Random(1)  # noqa: S311
        self.path, self.bit = "", 0
        proxy.alter = self.alter

    def alter(self, request: Request, answer: Answer) -> Answer:
        if self.kind in request.path and request.method == "GET" and answer.body:
            self.paths.setdefault(request.path, len(answer.body))
        if request.path != self.path or request.method != "GET":
            return answer
        place, bit = divmod(self.bit, 8)
        body = bytearray(answer.body)
        if place < len(body):
            body[place] ^= 1 << bit
        return answer.with_body(bytes(body))

    def choose(self) -> None:
        self.path = self.dice.choice(sorted(self.paths))
        self.bit = self.dice.randrange(8 * self.paths[self.path])


def pulls_with_flips(proxy: Between, source: Store, root: Path, flips: int, kind: str) -> dict[str, int]:
    """How many pulls were refused, brought the very version in spite of the flip, or left anything else visible."""
    target = f"oci://{proxy.host}/models:fruit"
    push_to(target, source, "fruit")
    flipper = Flips(proxy, kind)
    pull(target, root / "first", plain_http=True)
    results = {"refused": 0, "harmless": 0, "wrong": 0}
    for number in range(flips):
        flipper.choose()
        store = Store(root / str(number))
        try:
            pull(target, store.root, plain_http=True)
        except StoreError:
            is_visible = (store.root / "tasks").exists() and any((store.root / "tasks").iterdir())
            results["wrong" if is_visible or wrong_files(store.root) else "refused"] += 1
        else:
            same = store.read_manifest("fruit", 1)[1] == source.read_manifest("fruit", 1)[1]
            results["harmless" if same and not wrong_files(store.root) else "wrong"] += 1
    return results


@pytest.fixture
def small(tmp_path: Path) -> Store:
    store = Store(tmp_path / "small")
    publish_sized(store, "fruit", 2_000, 500)
    return store


@pytest.mark.slow
def test_bits_of_files_that_flip_on_the_way(small, proxy, tmp_path, counts, reliability):
    flips = counts(25, 1000)

    results = pulls_with_flips(proxy, small, tmp_path / "pulled", flips, "/blobs/")

    reliability(
        "a bit of a blob, the manifest or another file of a version flips between registry and pull",
        "all refused; nothing visible",
        f"{flips} flips, {results['refused']} refused, {results['harmless']} accepted, {results['wrong']} visible",
        reached=results == {"refused": flips, "harmless": 0, "wrong": 0},
    )


@pytest.mark.slow
def test_bits_of_image_manifests_that_flip_on_the_way(small, proxy, tmp_path, counts, reliability):
    flips = counts(25, 1000)

    results = pulls_with_flips(proxy, small, tmp_path / "pulled", flips, "/manifests/")

    assert results["refused"] > 0
    reliability(
        "a bit of a registry's image manifest flips; it has titles that no pull reads",
        "refused, or the very version that was pushed",
        f"{flips} flips, {results['refused']} refused, {results['harmless']} in what is not read, "
        f"{results['wrong']} anything else",
        reached=results["wrong"] == 0,
    )


def test_control_bytes_that_nothing_verifies_are_found(small, proxy, tmp_path, monkeypatch):
    def receive(remote, blob, file, advance) -> None:
        for piece in remote.fetch(blob, 0):
            file.write(piece)
        file.flush()

    monkeypatch.setattr("model_store.transfer.pulling.receive", receive)

    assert pulls_with_flips(proxy, small, tmp_path / "pulled", 10, "/blobs/")["wrong"] > 0


def test_the_bytes_of_a_second_task(source, proxy, tmp_path, reliability):
    second = publish_sized(source, "tags", 2_000_000, 500_000)
    push_to(f"oci://{proxy.host}/models:fruit", source, "fruit")
    pull(f"oci://{proxy.host}/models:fruit", tmp_path / "other", plain_http=True)
    graphs = next(iter(second.graphs.values()))
    own = graphs.image_tail.size + graphs.text_tail.size + second.head.size
    own += len(source.read_manifest("tags")[1])

    before = proxy.received_bytes
    push_to(f"oci://{proxy.host}/models:tags", source, "tags")
    sent = proxy.received_bytes - before
    before = proxy.sent_bytes
    pull(f"oci://{proxy.host}/models:tags", tmp_path / "other", plain_http=True)
    fetched = proxy.sent_bytes - before

    assert Store(tmp_path / "other").verify("tags", 1) == second
    reliability(
        "bytes that a second task on the same backbone moves, as the registry counts them",
        "at most 1.05 times its own tails, head and manifest",
        f"push {sent / own:.3f}, pull {fetched / own:.3f} times",
        reached=max(sent, fetched) <= 1.05 * own,
    )


def test_a_disk_that_fills_up_during_a_pull(source, registry, small_disk: SmallDisk, counts, reliability):
    target = f"oci://{registry}/models:fruit"
    push_to(target, source, "fruit")
    sizes = [64 * 1024 * step for step in range(1, 76, counts(25, 4))]  # the version has 5 MB
    problems = []
    for size in sizes:
        small_disk.mount(size)
        store = Store(small_disk.path / "store")
        script = (
            "import shutil, sys; shutil.disk_usage = lambda path: type('Free', (), {'free': 10**12});"
            "from model_store.cli import app; app(sys.argv[1:])"
        )
        command = [sys.executable, "-c", script, "pull", target, "--plain-http", "--store", str(store.root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "No space left on device" in done.stderr
        if wrong_files(store.root) or ((store.root / "tasks").is_dir() and store.tasks()):
            problems.append(size)
        small_disk.resize(64 * 1024 * 1024)
        pull(target, store.root, plain_http=True, activate=True)
        store.verify("fruit")
        small_disk.unmount()
    reliability(
        "the disk is full during a pull; the next pull has room",
        "one line of error, nothing visible; the next pull goes on",
        f"{len(sizes)} sizes of the disk, {len(problems)} left anything visible",
        reached=not problems,
    )
