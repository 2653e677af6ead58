"""docs/reliability.md, from what the fault tests measured."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

_FAULTS = Path(__file__).parents[2] / "faults"
_PACKAGES = ("fastapi", "uvicorn", "pydantic", "onnxruntime", "pillow")
_HEAD = """\
# Reliability, measured

`make faults` writes this page. `make faults FAULTS=tests/faults/load/test_overload.py` updates only the rows of that
file. Each row is a figure of one test in tests/faults/. Rows marked *control* plant a fault and show that the test
detects it.

"""
_COLUMNS = """
| fault or load | goal | measured | reached | seconds | date | test |
|---|---|---|---|---|---|---|
"""
_TEST = re.compile(r"`(?P<file>\w+\.py)::(?P<function>\w+)[^`]*` \|$")


class Row(NamedTuple):
    """One figure, and the test that measured it, such as `test_input.py::test_a_bomb[png]`."""

    what: str
    goal: str
    measured: str
    reached: bool
    seconds: float
    test: str

    def check(self) -> None:
        """Raise AssertionError where the goal is not reached."""
        assert self.reached, f"{self.what}: {self.measured}, where {self.goal} is wanted"


ROWS: list[Row] = []  # of this session


def write_report(path: Path, rows: Sequence[Row]) -> None:
    """The page: these rows, and those it has of other tests where it was the same machine with the same packages."""
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    machine = f"- machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {versions}"
    today = datetime.now(UTC).date().isoformat()
    lines = [
        f"| {row.what} | {row.goal} | {row.measured} | {'yes' if row.reached else '**no**'} | {row.seconds:.0f} "
        f"| {today} | `{row.test}` |"
        for row in rows
    ]
    lines += _others(path, machine, {row.test for row in rows})
    lines.sort(key=_test_of)
    path.write_text(f"{_HEAD}{machine}\n{_COLUMNS}" + "\n".join(lines) + "\n", encoding="utf-8")


def _others(path: Path, machine: str, tests: set[str]) -> list[str]:
    """The page's lines about other tests, as long as there are these tests."""
    known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if machine not in known:
        return []
    return [line for line in known if _test_of(line) not in {*tests, ""} and _exists(line)]


def _test_of(line: str) -> str:
    return line.split("`")[-2] if _TEST.search(line) else ""


def _exists(line: str) -> bool:
    found = _TEST.search(line)
    files = _FAULTS.rglob(found["file"]) if found else ()
    return found is not None and any(f"def {found['function']}(" in file.read_text(encoding="utf-8") for file in files)
