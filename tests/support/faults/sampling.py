"""Parameters of which `make test` tries some, and `make faults` all."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def each(values: Iterable[object], tried: Iterable[object]) -> list:
    """A parameter for each value. Those that are not `tried` are left out without `--full-faults`."""
    kept = [*tried]
    return [pytest.param(value, marks=() if value in kept else pytest.mark.full_only) for value in values]
