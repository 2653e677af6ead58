from __future__ import annotations

import pytest

from service.inference.fair_share import FairShare


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [100.0]
    monkeypatch.setattr("service.inference.fair_share.time.perf_counter", lambda: now[0])
    return now


def next_of(fair_share: FairShare, *tasks: str) -> str:
    return min(tasks, key=fair_share.recent_tokens)


def test_tasks_that_always_want_more_get_alike(clock):
    fair_share, served = FairShare(), []
    for _ in range(40):
        clock[0] += 0.01
        served.append(next_of(fair_share, "a", "b"))
        fair_share.spend(served[-1], 5)
    assert served.count("a") == served.count("b") == 20


def test_tokens_count_and_not_runs(clock):
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
        fair_share.spend("there", 5)
    ahead = 0
    while next_of(fair_share, "there", "back") == "back":
        clock[0] += 0.01
        fair_share.spend("back", 5)
        ahead += 1
    assert 10 < ahead < 100  # runs of 10 ms: under a second
