"""The serving process only reads: nothing in it unpickles, and nothing writes to the store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model_store import rollback
from tests.support.faults.asking import ITEM, as_json, ask, get, label, refusal
from tests.support.waiting import eventually

# Runs before anything else in a Python process that finds it on its path. What is forbidden is noted, then refused.
WATCH = """
import os, sys, _pickle, pickle

NOTES, STORE = os.environ["WATCH_NOTES"], os.environ["WATCH_STORE"]
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod",
           "os.chown", "os.utime", "os.setxattr", "os.removexattr"}

def note(what):
    with open(NOTES, "a") as file:
        file.write(what + "\\n")

def refuse(*arguments, **options):
    note("unpickles")
    raise PermissionError("this process must not unpickle")

class Unpickler:
    __init__ = refuse

def in_store(path):
    return isinstance(path, (str, bytes, os.PathLike)) and os.path.abspath(os.fsdecode(path)).startswith(STORE)

def watch(event, arguments):
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if writes and (in_store(path) or isinstance(path, str) and not os.path.isabs(path)):
            note(f"writes {path}")
    elif event in CHANGES and any(map(in_store, arguments[:2])):
        note(f"{event} {arguments}")

for module in (pickle, _pickle):
    module.load = module.loads = refuse
    module.Unpickler = Unpickler
pickle._Unpickler, pickle._load, pickle._loads = Unpickler, refuse, refuse
sys.addaudithook(watch)
note("watching")
"""


@pytest.fixture
def notes(shelf, tmp_path, monkeypatch) -> Path:
    """What forbidden things processes started from here have done, a line each; the first says that one is watched."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch/sitecustomize.py").write_text(WATCH)
    paths = [str(tmp_path / "watch"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("WATCH_NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("WATCH_STORE", str(shelf.store.root))
    return tmp_path / "notes"


def state_of(root: Path) -> dict[str, tuple[int, int, int]]:
    """Every file and folder with when it and its attributes were changed."""
    found = {str(path): path.lstat() for path in [root, *root.rglob("*")]}
    return {path: (status.st_mtime_ns, status.st_ctime_ns, status.st_size) for path, status in found.items()}


@pytest.mark.slow
def test_a_service_never_unpickles_and_never_writes_to_its_store(shelf, server, notes, reliability):
    for name in ("fruit", "tags"):
        shelf.publish(name, seed=1)
    shelf.publish(seed=2)
    head = shelf.store.root / "blobs/sha256" / shelf.publish(seed=3).head.sha256
    rollback(shelf.store, "fruit")
    running = server(shelf.store)
    asked = 0
    for path, body in (
        ("/classify", ITEM),
        ("/classify", {**ITEM, "version": 1}),
        ("/classify", {**ITEM, "version": 9}),
        ("/classify/batch", {"inputs": [{"text": "red"}, {"image": ITEM["image"]}], "tasks": ["fruit", "tags"]}),
        ("/tasks", None),
        ("/tasks/tags", None),
        ("/readyz", None),
    ):
        before = state_of(shelf.store.root)
        get(running.base, path) if body is None else ask(running.base, [as_json(path, body)])
        assert state_of(shelf.store.root) == before, path
        asked += 1
    head.write_bytes(b"damaged")
    (shelf.store.root / "tasks/fruit/live").write_text("3\n")
    before = state_of(shelf.store.root)
    eventually(lambda: refusal(running))
    assert label(running)["version"] == 2
    assert state_of(shelf.store.root) == before
    running.process.terminate()
    running.process.wait(30)

    watching, *done = notes.read_text().splitlines()
    assert watching == "watching"
    reliability(
        "the serving process loads, pins, refuses and answers while unpickling is blocked and writes are recorded",
        "nothing is unpickled, nothing in the store changes",
        f"{asked + 2} requests, {len(done)} notes {done or ''}".rstrip(),
        reached=not done,
    )


def test_a_service_answers_from_a_read_only_store(shelf, server):
    shelf.publish()
    everything = [shelf.store.root, *shelf.store.root.rglob("*")]
    modes = {path: path.stat().st_mode for path in everything}
    for path in reversed(everything):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert label(server(shelf.store))["version"] == 1
    finally:
        for path in everything:
            path.chmod(modes[path])


@pytest.mark.parametrize(
    ("script", "noted"),
    [
        ("import pickle; pickle.loads(pickle.dumps(1))", "unpickles"),
        ("import pickle, io; pickle.Unpickler(io.BytesIO(pickle.dumps(1))).load()", "unpickles"),
        ("import io, numpy as np; file = io.BytesIO(); np.save(file, np.array([{}])); file.seek(0); "
         "np.load(file, allow_pickle=True)", "unpickles"),
        ("import os; open(os.environ['WATCH_STORE'] + '/new', 'w')", "writes"),
        ("import os; os.mkdir(os.environ['WATCH_STORE'] + '/new')", "os.mkdir"),
        ("import os; h = os.open(os.environ['WATCH_STORE'], os.O_RDONLY); "
         "os.open('new', os.O_WRONLY | os.O_CREAT, dir_fd=h)", "writes new"),
    ],
    ids=["loads", "Unpickler", "numpy", "open", "mkdir", "open beneath a folder"],
)  # fmt: skip
def test_control_forbidden_calls_are_recorded(shelf, notes, script, noted):
    shelf.store.root.mkdir()

    subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, timeout=60)

    assert notes.read_text().splitlines()[0] == "watching"
    assert noted in notes.read_text().splitlines()[1]
