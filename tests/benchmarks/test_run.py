"""The folder of results."""

from __future__ import annotations

import platform
from pathlib import Path
from unittest.mock import Mock

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
def test_processors_of_alike_speed_have_one_folder(monkeypatch, vendor, flags, family):
    content = f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: content)
    assert processor_family() == family


def test_without_that_file_the_family_is_the_architecture(monkeypatch):
    monkeypatch.setattr(Path, "read_text", Mock(side_effect=FileNotFoundError))
    assert processor_family() == platform.machine()
