"""Publishers in separate processes: killed at any point, and several at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from model_store import Store, collect_garbage, publish

READ_DRAFT = """
import os, random, signal, sys, time
from pathlib import Path
from model_store import ManifestDraft, Store, publish

store, folder = Store(Path(sys.argv[1])), Path(sys.argv[2])
draft = ManifestDraft.model_validate_json((folder / "draft.json").read_bytes())
blobs = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "draft.json"}
"""

# Forks a publisher that kills itself at its n-th change of the file system, for n = 1, 2, 3 ... until one finishes.
KILL_AT_EVERY_CHANGE = (
    READ_DRAFT
    + """
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}
for number in range(1, 200):
    child = os.fork()
    if child == 0:
        left = number
        def kill_at_change(event, arguments):
            global left
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event in CHANGES or writes:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(kill_at_change)
        publish(store, draft, blobs)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    live = store.live(draft.task) if (store.root / "tasks" / draft.task).is_dir() else None
    if live is not None:
        store.verify(draft.task, live)
    print(number, status, live, flush=True)
    if status == 0:
        break
"""
)

# Publishes once, then forks publishers that publish repeatedly, and kills each after a random time.
KILL_AT_RANDOM = (
    READ_DRAFT
    + """
moments = random.Random(0)
began = time.monotonic()
publish(store, draft, blobs)
seconds = time.monotonic() - began
for number in range(15):
    child = os.fork()
    if child == 0:
        while True:
            publish(store, draft, blobs)
    time.sleep(moments.uniform(0, 2 * seconds))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(store.verify(draft.task).version, flush=True)
"""
)

PUBLISH_FIVE_TIMES = (
    READ_DRAFT
    + """
for _ in range(5):
    print(publish(store, draft, blobs).version, flush=True)
"""
)


def start(script: str, store: Store, draft_folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(store.root), str(draft_folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines_of(process: subprocess.Popen[str]) -> list[list[str]]:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return [line.split() for line in output.splitlines()]


def assert_works_again(store: Store, draft, *, left_behind: bool) -> None:
    versions = store.versions("fruit")
    for version in versions:
        store.verify("fruit", version)
    dead = list((store.root / ".staging").iterdir())
    assert bool(dead) == left_behind
    latest = publish(store, *draft(tail="after the kills"))
    assert latest.version > max(versions)  # a killed publisher may have taken a number
    assert store.verify("fruit") == latest
    assert set(dead) <= set(collect_garbage(store))
    assert list((store.root / ".staging").iterdir()) == []
    for version in store.versions("fruit"):
        store.verify("fruit", version)


@pytest.mark.parametrize("old_versions", [0, 1], ids=["first publish", "second publish"])
@pytest.mark.slow
def test_a_publisher_killed_at_any_change_leaves_a_valid_live_version(store, draft, draft_folder, old_versions):
    for _ in range(old_versions):
        publish(store, *draft(tail="old"))

    killed = lines_of(start(KILL_AT_EVERY_CHANGE, store, draft_folder))

    *deaths, survivor = [(int(status), live) for _, status, live in killed]
    assert len(deaths) > 10
    assert {status for status, _ in deaths} == {-9}
    assert survivor[0] == 0
    lives = [live for _, live in deaths]
    before = str(old_versions) if old_versions else "None"
    assert lives[0] == before
    assert lives == sorted(lives, key=lambda live: (live != before, int(live) if live != "None" else 0))
    assert_works_again(store, draft, left_behind=True)


def test_publishers_killed_at_random_leave_a_live_version_that_verifies(store, draft, draft_folder):
    publish(store, *draft(tail="old"))

    lives = [int(version) for (version,) in lines_of(start(KILL_AT_RANDOM, store, draft_folder))]

    assert len(lives) == 15
    assert lives == sorted(lives)
    assert lives[-1] > 2, "no publisher lived long enough to publish"
    assert_works_again(store, draft, left_behind=bool(list((store.root / ".staging").iterdir())))


def test_concurrent_publishers_get_different_numbers(store, draft, draft_folder):
    publishers = [start(PUBLISH_FIVE_TIMES, store, draft_folder) for _ in range(4)]

    numbers = [[int(number) for (number,) in lines_of(publisher)] for publisher in publishers]

    assert sorted(number for own in numbers for number in own) == list(range(1, 21)) == store.versions("fruit")
    assert all(own == sorted(own) for own in numbers)
    assert store.live("fruit") == 20
    assert_works_again(store, draft, left_behind=False)


def test_a_reader_always_gets_a_complete_version_while_others_publish_and_collect(store, draft, draft_folder):
    publish(store, *draft())
    publisher = start(PUBLISH_FIVE_TIMES, store, draft_folder)
    seen = []
    while publisher.poll() is None:
        seen.append(store.verify("fruit").version)
        collect_garbage(store)
    lines_of(publisher)

    assert seen == sorted(seen)
    assert store.verify("fruit").version == 6
