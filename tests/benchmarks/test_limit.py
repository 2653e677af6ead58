"""The loop around the bare runtime."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from benchmarks.limit import measure, median_ms, per_second
from tests.support.tiny import Shelf


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


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.slow
def test_the_graphs_of_a_store_run_with_the_weights_of_their_task(shelf: Shelf, adapted: bool) -> None:
    shelf.publish_draft(shelf.draft(adapted=adapted))

    figures = measure(shelf.store.root, "fp32", "onnxruntime", seconds=0.01)

    assert min(figures["per_second"], figures["with_preparation_per_second"]) > 0
    assert min(figures["text_ms"], figures["image_ms"]) > 0
