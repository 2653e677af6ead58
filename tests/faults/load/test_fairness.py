"""One task cannot starve another (O7)."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack

import pytest

from benchmarks.load import Load, closed_loop, open_loop
from tests.support.counting import counting_draft
from tests.support.faults.raw_http import connect, events_named, read_answer, request
from tests.support.waiting import eventually

BUSY = "a red green apple square of"  # takes longer than it takes to queue the others
GREEDY, MODEST = 30, 5


def both(url: str, greedy: float, modest: float, seconds: float) -> tuple[Load, Load]:
    """Open loop on two tasks at once, so many requests a second on each."""
    loads: dict[str, Load] = {}

    def offer(task: str, rate: float, seed: int) -> None:
        loads[task] = open_loop(url, [body(task)], rate, seconds, seed)

    threads = [threading.Thread(target=offer, args=each) for each in (("fruit", greedy, 1), ("tags", modest, 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return loads["fruit"], loads["tags"]


def body(task: str, text: str = "a red apple") -> bytes:
    return json.dumps({"task": task, "text": text}).encode()


@pytest.mark.slow
def test_a_modest_task_is_answered_before_the_queue_of_a_greedy_one(shelf, server):
    for name in ("fruit", "tags"):
        shelf.publish_draft(counting_draft(shelf, exponent=7, name=name))
    running = server(shelf.store, encoder_workers=1, max_batch_tokens=1, timeout_ms=600_000)
    bodies = [body("fruit", BUSY), *[body("fruit")] * GREEDY, *[body("tags")] * MODEST]

    with ExitStack() as stack:
        connections = [stack.enter_context(connect(running.port)) for _ in bodies]
        for connection, sent in zip(connections, bodies, strict=True):
            connection.sendall(request("POST", "/classify", body=sent))
        assert {read_answer(connection)[0] for connection in connections} == {200}

    eventually(lambda: len(events_named(running, "request")) == len(bodies))
    order = [event["task"] for event in events_named(running, "request")]  # the order of the answers
    assert "tags" not in order[GREEDY // 2 :], order


def test_timing_a_greedy_task_does_not_slow_down_a_modest_one(shelf, server, reliability):
    for name in ("fruit", "tags"):
        shelf.publish_draft(counting_draft(shelf, exponent=7, name=name))
    running = server(shelf.store, encoder_workers=1, max_batch_tokens=1)
    url, seconds = f"{running.base}/classify", 20
    capacity = closed_loop(url, [body("fruit")], concurrency=4, seconds=seconds / 2).per_second

    _, alike = both(url, 0.3 * capacity, 0.3 * capacity, seconds)
    greedy, modest = both(url, 1.5 * capacity, 0.3 * capacity, seconds)

    assert set(modest.statuses) == {"200"}
    assert greedy.statuses["200"] > 0
    ratio = modest.percentile(0.99) / alike.percentile(0.99)
    reliability(
        "task A sends 5 times as many requests, 1.8 times the capacity in all: p99 of task B relative to before",
        "at most 1.5; none of B refused",
        f"{ratio:.2f}; A: {greedy.statuses}, B: {modest.statuses}",
        ratio <= 1.5,
    )
