"""The CPU quota of a container."""

from __future__ import annotations

import os

import pytest

from service.cores import usable_cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """`machine(cgroup, files)`: a machine with 8 cores and these files; returns its root folder."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))

    def make(cgroup: str, files: dict[str, str]):
        for name, content in {"proc/self/cgroup": cgroup, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content + "\n")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("content", "cores"),
    [("max 100000", 8), ("100000 100000", 1), ("150000 100000", 2), ("50000 100000", 1), ("1200000 100000", 8)],
)
def test_a_quota_of_cgroup_v2(machine, content, cores):
    assert usable_cores(machine("0::/", {"sys/fs/cgroup/cpu.max": content})) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("100000", 1), ("250000", 3), ("10000", 1)])
@pytest.mark.parametrize("controller", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("path", ["/", "/docker/0123456789ab"], ids=["own mount", "path of the host"])
def test_a_quota_of_cgroup_v1(machine, quota, cores, controller, path):
    folder = f"sys/fs/cgroup/{controller}"
    files = {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": "100000"}

    assert usable_cores(machine(f"5:memory:{path}\n4:{controller}:{path}\n", files)) == cores


@pytest.mark.parametrize(
    ("slice_quota", "own_quota", "cores"), [("200000", "max", 2), ("max", "300000", 3), ("100000", "400000", 1)]
)
def test_the_quota_of_a_cgroup_above_counts_too(machine, slice_quota, own_quota, cores):
    files = {
        "sys/fs/cgroup/pods.slice/cpu.max": f"{slice_quota} 100000",
        "sys/fs/cgroup/pods.slice/pod7/cpu.max": f"{own_quota} 100000",
    }

    assert usable_cores(machine("0::/pods.slice/pod7", files)) == cores


def test_without_cgroups_the_affinity_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})

    assert usable_cores(tmp_path) == 3
