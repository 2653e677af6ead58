"""Pictures beneath a folder as rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from model_store.items.rows import Row

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}  # a format of no use is refused by name


def folder_rows(folder: Path) -> Iterator[Row]:
    """Each picture in order of its path: `image`, the path in the folder, and `label`, the path's first folder or None.

    Names that begin with a dot are left out, with all that is below them.
    """
    pictures = [path.relative_to(folder) for path in folder.rglob("*") if _is_picture(path)]
    for path in sorted(path for path in pictures if not any(part.startswith(".") for part in path.parts)):
        yield {"image": path.as_posix(), "label": path.parts[0] if len(path.parts) > 1 else None}


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and path.is_file()
