"""The loop around the bare runtime."""

from __future__ import annotations

import threading
from functools import partial

from benchmarks.limit import median_ms, per_second


def test_workers_take_the_jobs_in_turn() -> None:
    taken: list[tuple[str, int]] = []
    jobs = [partial(lambda name: taken.append((name, threading.get_ident())), name) for name in "abc"]

    rate = per_second(jobs, workers=2, seconds=0.3)

    counts = [sum(name == wanted for name, _ in taken) for wanted in "abc"]
    assert max(counts) - min(counts) <= 1
    assert len({thread for _, thread in taken}) == 2
    assert rate > 0


def test_a_job_that_takes_longer_than_the_measurement_is_measured_once() -> None:
    runs: list[int] = []

    assert median_ms(lambda: runs.append(1), seconds=0) > 0
    assert len(runs) == 1
