"""One task cannot starve another (O7)."""

from __future__ import annotations

import json
import threading

from benchmarks.load import Load, closed_loop, open_loop
from tests.support.counting import counting_draft


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


def body(task: str) -> bytes:
    return json.dumps({"task": task, "text": "a red apple"}).encode()


def test_a_task_that_asks_for_five_times_its_share_leaves_the_other_its_own(shelf, server, counts, reliability):
    for name in ("fruit", "tags"):
        shelf.publish_draft(counting_draft(shelf, exponent=7, name=name))
    running = server(shelf.store, encoder_workers=1, max_batch_tokens=1)
    url, seconds = f"{running.base}/classify", counts(2, 20)
    capacity = closed_loop(url, [body("fruit")], concurrency=4, seconds=seconds / 2).per_second

    _, alike = both(url, 0.3 * capacity, 0.3 * capacity, seconds)
    greedy, modest = both(url, 1.5 * capacity, 0.3 * capacity, seconds)

    assert set(modest.statuses) == {"200"}
    assert greedy.statuses["200"] > 0
    ratio = modest.percentile(0.99) / alike.percentile(0.99)
    reliability(
        "task A asks for 5 times as much, 1.8 times capacity in all: p99 of task B over before",
        "at most 1.5; none of B refused",
        f"{ratio:.2f}; A: {greedy.statuses}, B: {modest.statuses}",
        ratio <= counts(10, 1.5),
    )
