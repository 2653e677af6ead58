"""Publishers in processes of their own, to be killed or to meet a disk that fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from model_store import Store
from tests.support.tiny import TinyDraft

READ_DRAFTS = """
import os, random, signal, sys, time
from pathlib import Path
from model_store import ManifestDraft, Store, publish

store, folders, count = Store(Path(sys.argv[1])), sorted(Path(sys.argv[2]).iterdir()), int(sys.argv[3])
drafts = []
for folder in folders:
    draft = ManifestDraft.model_validate_json((folder / "draft.json").read_bytes())
    drafts.append((draft, {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "draft.json"}))
"""

PUBLISH = (
    READ_DRAFTS
    + """
for number in range(count):
    publish(store, *drafts[number % len(drafts)])
"""
)

# Control: every file and folder is left to the kernel's own time.
PUBLISH_UNSYNCED = "import os; os.fsync = lambda handle: None" + PUBLISH

# Control: a disk that is full goes unnoticed.
PUBLISH_BLINDLY = (
    """
import contextlib
from model_store import publishing, writing

def write(path, data, write=publishing.write_synced):
    with contextlib.suppress(OSError):
        write(path, data)

publishing.write_synced = writing.write_synced = write
"""
    + PUBLISH
)

# Forks publishers that publish without end, and kills each after a random time, every second one only after it has
# published; a dot for each kill.
KILL_AT_RANDOM = (
    READ_DRAFTS
    + """
moments = random.Random(0)
published, publishes = os.pipe()
for kill in range(count):
    child = os.fork()
    if child == 0:
        for number in range(kill, 10**9):
            publish(store, *drafts[number % len(drafts)])
            os.write(publishes, b".")
    if kill % 2:
        os.read(published, 1)
    time.sleep(moments.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    print(".", end="", flush=True)
"""
)


def save_drafts(folder: Path, drafts: Sequence[TinyDraft]) -> Path:
    """Drafts on disk, as the publishers read them."""
    for number, draft in enumerate(drafts):
        own = folder / str(number)
        own.mkdir(parents=True)
        (own / "draft.json").write_text(draft.manifest.model_dump_json())
        for sha256, data in draft.blobs.items():
            (own / sha256).write_bytes(data)
    return folder


def command(script: str, store: Store, drafts: Path, count: int = 1) -> list[str]:
    """What runs a publisher."""
    return [sys.executable, "-c", script, str(store.root), str(drafts), str(count)]


def start(script: str, store: Store, drafts: Path, count: int) -> subprocess.Popen[str]:
    """A publisher at work."""
    return subprocess.Popen(command(script, store, drafts, count), stdout=subprocess.PIPE, text=True)


def output_of(process: subprocess.Popen[str]) -> str:
    """What a publisher printed, once it has ended well."""
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    return output
