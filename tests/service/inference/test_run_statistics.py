"""Estimates of the duration of runs, and fair shares of tasks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.inference.run_statistics import FairShare, RunTime


@given(st.floats(1e-5, 1e-2), st.floats(0, 0.1), st.lists(st.integers(1, 500), min_size=2, max_size=40))
def test_the_slope_and_the_fixed_cost_of_runs_are_learnt(slope, fixed, sizes):
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


@pytest.mark.parametrize("slow", [3.0, 60.0, 3600.0])
def test_one_slow_run_is_forgotten_after_a_few_usual_ones(slow):
    run_time = RunTime()
    for seconds in [slow, *[0.001] * 25]:
        run_time.learn(10, seconds)
    assert run_time.seconds(10) < 0.01

    for seconds in [slow, *[0.001] * 5]:
        run_time.learn(10, seconds)
    assert run_time.seconds(10) < 0.01


def test_runs_that_stay_slower_become_the_estimate():
    run_time = RunTime()
    for seconds in [0.001] * 100 + [0.1] * 300:
        run_time.learn(10, seconds)
    assert run_time.seconds(10) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(("pause", "share"), [(10, 0.5), (20, 0.25), (600, 0.0)])
def test_an_estimate_fades_while_no_run_ends(clock, pause, share):
    run_time = RunTime()
    run_time.learn(10, 4.0)
    clock[0] += pause
    assert run_time.seconds(10) == pytest.approx(4.0 * share, abs=1e-6)


def test_every_run_adds_its_fixed_cost():
    run_time = RunTime()
    for tokens in (10, 20, 30, 40):
        run_time.learn(tokens, 0.5 + 0.01 * tokens)
    assert run_time.seconds(100, runs=4) == pytest.approx(0.01 * 100 + 4 * 0.5)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr("service.inference.run_statistics.time.perf_counter", lambda: now[0])
    return now


def next_of(fair_share: FairShare, *tasks: str) -> str:
    return min(tasks, key=fair_share.recent_tokens)


def test_tasks_that_always_have_inputs_get_equal_shares(clock):
    fair_share, served = FairShare(), []
    for _ in range(40):
        clock[0] += 0.01
        served.append(next_of(fair_share, "a", "b"))
        fair_share.spend(served[-1], 5)
    assert served.count("a") == served.count("b") == 20


def test_shares_are_counted_in_tokens_not_in_runs(clock):
    fair_share, tokens = FairShare(), {"long": 0, "short": 0}
    for _ in range(600):
        clock[0] += 0.01
        task = next_of(fair_share, "long", "short")
        size = 10 if task == "long" else 1
        fair_share.spend(task, size)
        tokens[task] += size
    assert tokens["long"] == pytest.approx(tokens["short"], rel=0.1)


def test_a_task_below_its_share_always_goes_first(clock):
    fair_share = FairShare()
    for run in range(60):
        clock[0] += 0.01
        if run % 3 == 2:
            assert next_of(fair_share, "greedy", "modest") == "modest"
            fair_share.spend("modest", 5)
        else:
            fair_share.spend("greedy", 5)


def test_a_task_that_returns_after_a_pause_goes_first_only_briefly(clock):
    fair_share = FairShare()
    fair_share.spend("back", 5)
    for _ in range(1_000):
        clock[0] += 0.01
        fair_share.spend("busy", 5)
    ahead = 0
    while next_of(fair_share, "busy", "back") == "back":
        clock[0] += 0.01
        fair_share.spend("back", 5)
        ahead += 1
    assert 10 < ahead < 100  # runs of 10 ms: under a second
