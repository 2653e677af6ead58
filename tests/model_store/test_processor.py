"""What Linux says of the processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_store.processor import has_amx


@pytest.mark.parametrize(
    ("content", "expected"), [("flags : fpu amx_bf16 amx_tile", True), ("flags : avx512_bf16", False), (None, False)]
)
def test_amx_is_read_from_the_processors_flags(monkeypatch, content, expected):
    def read_text(path: Path, **_: object) -> str:
        assert str(path) == "/proc/cpuinfo"
        if content is None:
            raise FileNotFoundError
        return content

    monkeypatch.setattr(Path, "read_text", read_text)
    assert has_amx() is expected
