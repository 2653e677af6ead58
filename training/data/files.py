"""Files that are there whole or not at all, and those that are not what they should be."""

from __future__ import annotations

from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file at once, so that a kill leaves the old one or the new one."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


def encoding_fault(path: Path) -> str:
    """What a file is that was not read as UTF-8, as a predicate, and the cure."""
    content = path.read_bytes()
    if content.startswith(b"PK\x03\x04"):
        return "is an Excel workbook, or another zip file; save it as CSV in UTF-8"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is in UTF-16; save it as UTF-8"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f"is not UTF-8 in line {line}; save it as UTF-8"
    return "was being written; try again"
