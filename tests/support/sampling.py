"""Parameters of which `make test` tries some, and `make faults` or `make slow-test` the others."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def each(values: Iterable[object], tried: Iterable[object]) -> list:
    """A parameter for each value, and a set of parameters for each tuple.

    Those that are not `tried` are left out without `--full-faults`.
    """
    kept = [*tried]
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)), marks=() if value in kept else pytest.mark.full_only
        )
        for value in values
    ]
