"""Processes under strace: what one calls, which calls change a folder, and the same with one of those calls failing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from tests.support.waiting import wait_until

_CHANGING = (
    "mkdir",
    "mkdirat",
    "openat",
    "write",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
)
_MOVES = ("rename", "renameat", "renameat2")
T = TypeVar("T")


class Change(NamedTuple):
    """A system call that changes the folder."""

    call: str
    number: int  # the first, second ... call of this name in the process
    line: str  # of strace's log

    @property
    def paths(self) -> list[str]:
        """What it is about: the open file or folder, then names."""
        return re.findall(r"<([^<>]*)>", self.line) + re.findall(r'"([^"]*)"', self.line)

    def moves_to(self, name: str) -> bool:
        """Whether it renames something to a path that ends so."""
        return self.call in _MOVES and self.paths[-1].endswith(name)


def needs_strace() -> pytest.MarkDecorator:
    """Skips where there is no strace, or where it may not trace."""
    missing = shutil.which("strace") is None
    refused = not missing and subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode != 0
    reason = "strace is not installed" if missing else "strace may trace no process here"
    return pytest.mark.skipif(missing or refused, reason=reason)


def trace(
    command: Sequence[str], log: Path, inject: str | None = None, content_bytes: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run the command, its calls in `log`; `inject` is strace's, such as `write:error=ENOSPC:when=3`.

    The log has the first `content_bytes` of what is written, and whole paths.
    """
    calls = ",".join(f"?{call}" for call in _CHANGING)
    options = ["-y", "-s", str(content_bytes), "-e", f"trace={calls}", *(["-e", f"inject={inject}"] if inject else [])]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        ["strace", "-o", str(log), *options, *command], capture_output=True, text=True, timeout=120, env=environment
    )


@contextmanager
def traced(pid: int, calls: str, log: Path) -> Iterator[None]:
    """Every such call of a process that runs already is written to `log`; skips where strace is missing or may not."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-s", "300", "-e", f"trace={calls}", "-o", str(log), "-p", str(pid)],
        stderr=subprocess.PIPE,
        text=True,
    )

    def all_threads_are_traced() -> bool:
        statuses = [status.read_text() for status in Path(f"/proc/{pid}/task").glob("*/status")]
        return tracer.poll() is not None or not any("TracerPid:\t0\n" in status for status in statuses)

    try:
        assert wait_until(all_threads_are_traced, 20)
        if tracer.poll() is not None:
            pytest.skip(f"strace may not attach here: {tracer.stderr.read().strip()}")
        yield
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
        tracer.wait(20)
        tracer.stderr.close()


def changes(log: Path, folder: Path) -> list[Change]:
    """The calls that change something below the folder, in order."""
    counts: Counter[str] = Counter()
    found = []
    for line in log.read_text().splitlines():
        call = line.split("(", 1)[0]
        counts[call] += 1
        changes_it = call in _CHANGING and (call != "openat" or "O_CREAT" in line)
        if changes_it and (f"{folder}/" in line or f"{folder}>" in line):
            found.append(Change(call, counts[call], line))
    return found


def spread(calls: Sequence[T], count: int, always: Sequence[T] = ()) -> list[T]:
    """`count` of the calls , or sizes, first and last among them, and those of `always`; all if there are no more."""
    if count >= len(calls):
        return list(calls)
    chosen = {calls[round(step * (len(calls) - 1) / (count - 1))] for step in range(count)} | {*always}
    return [call for call in calls if call in chosen]


def what_a_power_cut_could_lose(calls: Sequence[Change]) -> list[str]:
    """Files that move before they are synced, and folders not synced between a move into them and the next stage.

    The stages of publishing: blobs, then the version, then `live`.
    """
    problems = []
    for place, move in enumerate(calls):
        if move.call in _MOVES:
            source, target = move.paths[-2:]
            problems += [f"{path} moved unsynced" for path in _unsynced(calls[:place], source)]
            folder, later = str(Path(target).parent), calls[place + 1 :]
            stage = next((at for at, call in enumerate(later) if _opens_a_stage(call, folder)), len(later))
            if not _syncs(later[:stage], folder):
                problems.append(f"{folder} unsynced after {target} came")
    return problems


def _unsynced(calls: Sequence[Change], moved: str) -> set[str]:
    """What was changed of a file or folder, or in it, and not synced since."""
    unsynced = set()
    for call in calls:
        path = call.paths[0] if call.call in ("write", "fsync") else call.paths[-1]
        if path != moved and not path.startswith(f"{moved}/"):
            continue
        if call.call == "fsync":
            unsynced.discard(path)
        elif call.call == "write":
            unsynced.add(path)
        elif path != moved:  # a new name in the folder
            unsynced.add(str(Path(path).parent))
    return unsynced


def _opens_a_stage(call: Change, folder: str) -> bool:
    return call.call in _MOVES and (str(Path(call.paths[-1]).parent) != folder or call.moves_to("/live"))


def _syncs(calls: Sequence[Change], folder: str) -> bool:
    return any(call.call == "fsync" and call.paths[0] == folder for call in calls)
