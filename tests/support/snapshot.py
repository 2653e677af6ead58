"""What a folder holds, to compare before and after a command."""

from __future__ import annotations

from pathlib import Path

from model_store import Store


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file by its path, and of the lock of a store nothing; folders end in `/`."""
    paths = sorted(path for path in folder.rglob("*") if path.name not in (".lock", ".staging"))
    return {
        str(path.relative_to(folder)) + "/" * path.is_dir(): b"" if path.is_dir() else path.read_bytes()
        for path in paths
    }


def stored_blobs(store: Store) -> set[str]:
    """The SHA-256 of every blob of a store."""
    return {path.name for path in (store.root / "blobs" / "sha256").iterdir()}
