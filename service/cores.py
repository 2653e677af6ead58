"""The number of cores that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_V1_CONTROLLERS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")  # folders of the controller, by distribution


def usable_cores(root: Path = Path("/")) -> int:
    """The smaller of the CPU affinity and of the cgroup quota, rounded up.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    affinity = len(os.sched_getaffinity(0))
    return min([affinity, *(max(1, math.ceil(quota)) for quota in _quotas(root))])


def _quotas(root: Path) -> Iterator[float]:
    """The quotas of the process's cgroup and of those above it, in cores; cgroup v2 and v1."""
    cgroups = root / "sys" / "fs" / "cgroup"
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for folder in _with_parents(path):
            if not controllers:
                quota, _, period = _read(cgroups / folder / "cpu.max").partition(" ")
                yield from _cores(quota, period)
            elif "cpu" in controllers.split(","):
                for name in _V1_CONTROLLERS:
                    place = cgroups / name / folder
                    yield from _cores(_read(place / "cpu.cfs_quota_us"), _read(place / "cpu.cfs_period_us"))


def _with_parents(path: str) -> Iterator[PurePosixPath]:
    """A cgroup and those above it, relative to the mount. In a container only the mount itself may exist."""
    relative = PurePosixPath(path.lstrip("/"))
    yield relative
    yield from relative.parents


def _cores(quota: str, period: str) -> Iterator[float]:
    """No quota is written as `max` (v2) or -1 (v1); a file that cannot be read is empty."""
    if quota.isdecimal() and period.isdecimal() and int(period):
        yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
