"""Estimates of the duration of runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.inference.run_time import RunTime


@given(st.floats(1e-5, 1e-2), st.floats(0, 0.1), st.lists(st.integers(1, 500), min_size=2, max_size=40))
def test_it_finds_the_line_it_was_shown(slope, fixed, sizes):
    run_time = RunTime()
    for size in sizes:
        run_time.learn(size, slope * size + fixed)
    assert run_time.seconds(sizes[0]) == pytest.approx(slope * sizes[0] + fixed, rel=0.01)


def test_the_estimate_is_zero_at_first_and_old_runs_fade():
    run_time = RunTime()
    assert run_time.seconds(100) == 0.0
    for seconds in [5.0] * 10 + [0.1] * 300:
        run_time.learn(10, seconds)
    assert run_time.seconds(10) == pytest.approx(0.1, rel=0.05)
    assert run_time.seconds(0) == 0.0


def test_every_run_adds_its_fixed_cost():
    run_time = RunTime()
    for tokens in (10, 20, 30, 40):
        run_time.learn(tokens, 0.5 + 0.01 * tokens)
    assert run_time.seconds(100, runs=4) == pytest.approx(0.01 * 100 + 4 * 0.5)
