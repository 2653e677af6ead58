from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from service.models.malloc import return_freed_memory, return_large_blocks


@pytest.fixture
def calls(monkeypatch) -> list[tuple[int, ...]]:
    """The calls to a C library that has glibc's functions."""
    calls: list[tuple[int, ...]] = []
    note = lambda *arguments: calls.append(arguments)  # noqa: E731
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=note, malloc_trim=note))
    return calls


def test_glibc_gets_both_thresholds_and_the_call_to_trim(calls):
    return_large_blocks()
    return_freed_memory()

    assert calls == [(-3, 4 << 20), (-1, 8 << 20), (0,)]


def test_another_c_library_is_not_called(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    return_large_blocks()
    return_freed_memory()
