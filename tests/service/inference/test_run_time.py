"""Learning how long runs take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.inference.run_time import Pace


@given(st.floats(1e-5, 1e-2), st.floats(0, 0.1), st.lists(st.integers(1, 500), min_size=2, max_size=40))
def test_it_finds_the_line_it_was_shown(slope, fixed, sizes):
    pace = Pace()
    for size in sizes:
        pace.learn(size, slope * size + fixed)
    assert pace.seconds(sizes[0]) == pytest.approx(slope * sizes[0] + fixed, rel=0.01)


def test_it_knows_nothing_at_first_and_forgets_what_was_long_ago():
    pace = Pace()
    assert pace.seconds(100) == 0.0
    for seconds in [5.0] * 10 + [0.1] * 300:
        pace.learn(10, seconds)
    assert pace.seconds(10) == pytest.approx(0.1, rel=0.05)
    assert pace.seconds(0) == 0.0


def test_every_run_costs_what_a_run_costs():
    pace = Pace()
    for tokens in (10, 20, 30, 40):
        pace.learn(tokens, 0.5 + 0.01 * tokens)
    assert pace.seconds(100, runs=4) == pytest.approx(0.01 * 100 + 4 * 0.5)
