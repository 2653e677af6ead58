"""Loads of several clients as one. The check itself runs on a GPU: `make gpu-check`."""

from __future__ import annotations

import pytest

from benchmarks.gpu.saturation import together
from benchmarks.load import Load, MeasurementError


def test_loads_at_the_same_time_add_up() -> None:
    load = together([Load(2.0, (1.0, 3.0), {"200": 2}), Load(1.0, (2.0,), {"200": 1})])

    assert load.per_second == 1.5
    assert load.percentile(0.5) == 2.0


def test_a_failed_request_of_one_client_fails_the_load() -> None:
    load = together([Load(1.0, (1.0,), {"200": 1}), Load(1.0, (float("inf"),), {"500": 1})])

    with pytest.raises(MeasurementError, match="500"):
        load.check("both")
