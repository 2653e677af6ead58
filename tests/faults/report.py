"""docs/reliability.md, from what the fault tests measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

_PACKAGES = ("fastapi", "uvicorn", "pydantic", "onnxruntime", "pillow")


class Row(NamedTuple):
    """One figure, and the test that measured it."""

    what: str
    goal: str
    measured: str
    reached: bool
    seconds: float
    test: str


ROWS: list[Row] = []  # of this session


def write_report(path: Path, rows: Sequence[Row]) -> None:
    """The page."""
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    lines = [
        "# Reliability, measured",
        "",
        "Written by `make faults`; each row is one test of tests/faults/. A row that says *control* plants a fault and",
        "shows that the test catches it.",
        "",
        f"- machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {versions}",
        f"- finished: {datetime.now(UTC).isoformat(timespec='minutes')}",
        "",
        "| what was done | goal | measured | reached | seconds | test |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.what} | {row.goal} | {row.measured} | {'yes' if row.reached else '**no**'} | {row.seconds:.0f} "
        f"| `{row.test}` |"
        for row in rows
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
