"""A command under strace: which calls change a folder, and the same command with one of those calls failing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

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


def trace(command: Sequence[str], log: Path, inject: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command, its calls in `log`; `inject` is strace's, such as `write:error=ENOSPC:when=3`."""
    calls = ",".join(f"?{call}" for call in _CHANGING)
    options = ["-y", "-s", "0", "-e", f"trace={calls}", *(["-e", f"inject={inject}"] if inject else [])]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        ["strace", "-o", str(log), *options, *command], capture_output=True, text=True, timeout=120, env=environment
    )


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


def spread(items: Sequence[Change], count: int) -> list[tuple[int, Change]]:
    """`count` of the items with their places, first and last among them; all of them where there are no more."""
    if count >= len(items):
        return list(enumerate(items))
    places = {round(step * (len(items) - 1) / (count - 1)) for step in range(count)}
    return [(place, items[place]) for place in sorted(places)]


def what_a_power_cut_could_lose(made: Iterable[Change]) -> list[str]:
    """Moves whose source was not synced after its last change, or whose folder was not synced before the next stage.

    A stage ends where something that is named by its predecessors moves: first blobs, then the version, then `live`.
    """
    history = list(made)
    problems = []
    for place, move in enumerate(history):
        if move.call not in _MOVES:
            continue
        source, target = move.paths[-2:]
        before = [
            (at, change)
            for at, change in enumerate(history[:place])
            if any(p == source or p.startswith(f"{source}/") for p in change.paths)
        ]
        files = {change.paths[0] for _, change in before if change.call == "write"}
        for file in files:
            written = max(at for at, change in before if change.call == "write" and change.paths[0] == file)
            if not any(change.call == "fsync" and change.paths[0] == file for change in history[written:place]):
                problems.append(f"{file} moved before it was synced")
        folder = str(Path(target).parent)
        later = history[place + 1 :]
        stage = next(
            (
                at
                for at, other in enumerate(later)
                if (other.call in _MOVES and str(Path(other.paths[-1]).parent) != folder) or other.moves_to("/live")
            ),
            len(later),
        )
        if not any(change.call == "fsync" and change.paths[0] == folder for change in later[:stage]):
            problems.append(f"{folder} was not synced after {target} came")
    return problems
