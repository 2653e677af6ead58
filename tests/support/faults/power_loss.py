"""What a disk holds after the power fails: every change that was not synced may be there, or not, or by half."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.faults.tracing import Change

Keep = Callable[[], bool]  # whether a change that was not synced reached the disk
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_OPEN = re.compile(r"\((?:\d+)<([^<>]*)>")


@dataclass
class _File:
    synced: bytes = b""
    since: list[bytes] = field(default_factory=list)  # written after the last sync

    def write_to(self, path: Path, keep: Keep) -> None:
        written = (data if keep() else data[: len(data) // 2] if keep() else b"" for data in self.since)
        path.write_bytes(self.synced + b"".join(written))

    def sync(self) -> None:
        self.synced, self.since = self.synced + b"".join(self.since), []


@dataclass
class _Folder:
    names: dict[str, _File | _Folder] = field(default_factory=dict)
    synced: dict[str, _File | _Folder] = field(default_factory=dict)
    since: list[tuple[str, _File | _Folder | None]] = field(default_factory=list)  # set or removed after the last sync

    def set(self, name: str, what: _File | _Folder | None) -> None:
        self.since.append((name, what))
        self.names = _changed(self.names, name, what)

    def write_to(self, path: Path, keep: Keep) -> None:
        path.mkdir()
        names = self.synced
        for name, what in self.since:
            names = _changed(names, name, what) if keep() else names
        for name, what in names.items():
            what.write_to(path / name, keep)

    def sync(self) -> None:
        self.synced, self.since = dict(self.names), []


class Disk:
    """A folder whose present content is on disk, and what system calls then change of it in memory.

    Files are only appended to, as the store's are. A file's sync keeps its content, not its name; a folder's keeps the
    names in it, not what they hold; a rename is a name set and a name removed, each of which may be lost alone.
    """

    def __init__(self, root: Path, known_as: Path) -> None:
        """`root` is read; the calls name it `known_as`."""
        self._prefix = f"{known_as}/"
        self._top = _on_disk(root)

    def apply(self, call: Change) -> None:
        """Change what is in memory as the call did; one that failed changes nothing."""
        if " = -1 " in call.line:
            return
        quoted = _QUOTED.findall(call.line)
        opened = _OPEN.search(call.line)
        match call.call:
            case "fsync":
                self._at(opened[1]).sync()
            case "write":
                self._at(opened[1]).since.append(quoted[0].encode().decode("unicode_escape").encode("latin-1"))
            case "openat":
                folder, name = self._place(quoted[0])
                if name not in folder.names:
                    folder.set(name, _File())
            case "mkdir":
                folder, name = self._place(quoted[0])
                folder.set(name, _Folder())
            case "rename":
                (source, old), (target, new) = map(self._place, quoted)
                target.set(new, source.names[old])
                source.set(old, None)
            case "unlink" | "rmdir" | "unlinkat":
                folder, name = self._place(f"{opened[1]}/{quoted[0]}" if opened else quoted[0])
                folder.set(name, None)
            case _:
                raise AssertionError(f"no model of {call.line[:100]}")

    def after_power_loss(self, path: Path, keep: Keep) -> None:
        """Write the folder as the disk may hold it; `keep` is asked for each change that was not synced."""
        self._top.write_to(path, keep)

    def _at(self, path: str) -> _File | _Folder:
        place = self._top
        for name in f"{path}/".removeprefix(self._prefix).split("/")[:-1]:
            place = place.names[name]
        return place

    def _place(self, path: str) -> tuple[_Folder, str]:
        folder, _, name = path.rpartition("/")
        return self._at(folder), name


def _changed(names: dict[str, _File | _Folder], name: str, what: _File | _Folder | None) -> dict[str, _File | _Folder]:
    others = {other: value for other, value in names.items() if other != name}
    return others if what is None else {**others, name: what}


def _on_disk(path: Path) -> _Folder:
    names = {
        child.name: _on_disk(child) if child.is_dir() else _File(child.read_bytes()) for child in sorted(path.iterdir())
    }
    return _Folder(names, dict(names))
