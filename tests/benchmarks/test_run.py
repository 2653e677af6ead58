"""The folder of results."""

from __future__ import annotations

import platform

import pytest

from benchmarks.run import processor_family

AMX = "fpu avx512f amx_bf16 amx_tile"


@pytest.mark.parametrize(
    ("vendor", "flags", "family"),
    [
        ("GenuineIntel", AMX, "intel-amx"),
        ("GenuineIntel", "fpu avx2", "intel"),
        ("AuthenticAMD", "fpu avx512_bf16", "amd"),
        ("AuthenticAMD", AMX, "amd-amx"),
        ("Other", "amx_bf16x", platform.machine()),
    ],
)
def test_processors_of_alike_speed_have_one_folder(tmp_path, vendor, flags, family):
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n")
    assert processor_family(path) == family


def test_without_that_file_the_family_is_the_architecture(tmp_path):
    assert processor_family(tmp_path / "none") == platform.machine()
